"""Whatever holds an image -> its pixels, with a bound on what is decoded at one time."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from src.images.decode import RGBImage, UndecodableImage, decode, open_header

Source = str | os.PathLike[str] | bytes | NDArray[np.uint8] | Image.Image

MAX_FILE_BYTES = 2**30
_ORIENTATION = 0x0112  # EXIF


class PixelBudget:
    """Lets images be decoded side by side while they fit; a larger one waits to be alone."""

    def __init__(self, pixels: int) -> None:
        """Allow `pixels` in flight."""
        self._all = self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait until `pixels` are free, and hold them inside of the context."""
        wanted = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def read_bytes(path: Path) -> bytes:
    """Return the content of the file at `path`.

    Raises:
        UndecodableImage: there is none, or it is too large; the message says why, without the path.
    """
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UndecodableImage(
                f"{size:,} bytes, more than {MAX_FILE_BYTES:,}: save it smaller, in another format"
            )
        return path.read_bytes()
    except OSError as error:
        raise UndecodableImage(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL, or a character that no file's name has here
        if isinstance(error, UndecodableImage):
            raise
        reason = f"no path of a file ({error}); give one a line, as `find -print` does"
        raise UndecodableImage(reason) from error


@contextmanager
def pixels_of(source: Source, budget: PixelBudget) -> Iterator[RGBImage]:
    """Give the pixels of a file's path or content, of an array (H, W, 3), or of Pillow's image.

    Those of a file count as in flight until the end of the context.

    Raises:
        UndecodableImage: it is not there, or no image.
    """
    if isinstance(source, np.ndarray):
        yield _checked(source)
    elif isinstance(source, Image.Image):
        yield _of_pillow(source)
    else:
        data = source if isinstance(source, bytes) else read_bytes(Path(source))
        with budget.hold(count_pixels(data)):
            yield decode(data)


def _checked(array: NDArray[Any]) -> RGBImage:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UndecodableImage(
            f"an array of {array.dtype} with shape {array.shape}: give uint8 with shape (H, W, 3)"
        )
    return np.ascontiguousarray(array)


def _of_pillow(image: Image.Image) -> RGBImage:
    # Through the one decoder: it knows what to do with palettes, alpha and 16 bits.
    encoded = io.BytesIO()
    try:
        image.save(encoded, "TIFF" if image.mode in {"CMYK", "YCbCr", "LAB", "F"} else "PNG")
    except (OSError, ValueError) as error:
        raise UndecodableImage(f"pixel mode {image.mode}: convert it to RGB first") from error
    return decode(encoded.getvalue())


def count_pixels(data: bytes) -> int:
    """Return the number of pixels that the header of an image names; 0 where `decode` refuses."""
    try:
        with open_header(data) as image:
            return image.width * image.height
    except UndecodableImage:
        return 0


def upright(picture: Image.Image, data: bytes) -> Image.Image:
    """Return `picture`, made of the pixels as stored in `data`, turned as its EXIF says."""
    with open_header(data) as image:
        picture.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(picture)
