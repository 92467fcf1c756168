"""Encoded bytes -> pixels: the one way in which every stage sees an image."""

import io
import struct
import zlib

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from src.core.cli import InputError

RGBImage = NDArray[np.uint8]  # (H, W, 3), contiguous

_JPEG_START = b"\xff\xd8\xff"
# Modes that become 8-bit RGB without losing range; 16-bit and float images would be clipped.
_EIGHT_BIT_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# A header of a few bytes can ask for gigabytes; Pillow refuses as many for all other formats.
_MAX_PIXELS = 2 * 89_478_485
# Pillow's readers let the errors of their parsers through.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    RuntimeError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UndecodableImage(InputError):  # noqa: N818 - it names what is wrong with the image
    """The bytes are not a whole image of a known format."""


def decode(data: bytes) -> RGBImage:
    """Return the pixels as stored, uint8 RGB, shape (H, W, 3), contiguous.

    An EXIF orientation is ignored, an alpha channel dropped, and of an animation the first frame
    is taken. JPEGs come out bit for bit as Pillow decodes them, in about half the time
    (libjpeg-turbo without copies), but a damaged one is refused where Pillow would fill it with
    grey. Of colours with 16 bits a channel (PNG) Pillow takes the higher 8.

    Raises:
        UndecodableImage: damaged, of an unknown format, or of a pixel mode that has no 8-bit RGB
            (grey with 16 bits, floating point).
    """
    return _decode_jpeg(data) if data.startswith(_JPEG_START) else _decode_other(data)


def open_header(data: bytes) -> Image.Image:
    """Return the image as Pillow opens it: format, size and tables are read, pixels are not.

    Raises:
        UndecodableImage: the format is unknown or the header damaged.
    """
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise UndecodableImage(f"unknown format, starts with {data[:8]!r}") from error
    except _PILLOW_ERRORS as error:
        raise UndecodableImage(str(error)) from error


def _decode_jpeg(data: bytes) -> RGBImage:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if height * width > _MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, more than {_MAX_PIXELS:,}")
        # libjpeg-turbo writes rows that begin at a multiple of 32 bytes past the caches, where
        # whoever looks at a small image next waits for them. After an odd place few or none do.
        memory = np.empty(1 + height * width * 3, np.uint8)
        pixels: RGBImage = simplejpeg.decode_jpeg(data, buffer=memory[1:])
    except (ValueError, MemoryError) as error:
        raise UndecodableImage(str(error)) from error
    return pixels


def _decode_other(data: bytes) -> RGBImage:
    with open_header(data) as image:
        if image.mode not in _EIGHT_BIT_MODES:
            raise UndecodableImage(f"pixel mode {image.mode} is not 8 bits a channel")
        try:
            # A palette with transparency has no direct way to RGB in Pillow.
            opaque = image.convert("RGBA") if image.has_transparency_data else image
            return np.array(opaque.convert("RGB"))
        except _PILLOW_ERRORS as error:
            raise UndecodableImage(f"{image.format}: {error}") from error
