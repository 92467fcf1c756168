"""Encoded bytes -> pixels: the one way in which every stage sees an image."""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from src.core.cli import InputError

RGBImage = NDArray[np.uint8]  # (H, W, 3), contiguous

_JPEG_START = b"\xff\xd8\xff"
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_BOX = b"ftyp"  # where it stands: HEIC, AVIF and other files of ISO's base media format
# Modes that become 8-bit RGB without losing range; 16-bit and float images would be clipped.
_EIGHT_BIT_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_OTHER_MODES = {
    "F": "32-bit floating point",
    "I": "32-bit integers",
    "LAB": "CIELAB colours",
    "HSV": "HSV colours",
}
_OTHER_FORMATS = {
    b"#?RADIANCE": "Radiance HDR",
    b"v/1\x01": "OpenEXR",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
}
_SAMPLE_FORMATS = {2: "signed integers", 3: "floating point", 5: "complex integers", 6: "complex"}
_CURE = "convert it to RGB with 8 bits a channel"
# The largest cameras of phones have 200 megapixels; a header of a few bytes can ask for terabytes.
_MAX_PIXELS = 1 << 28
_ROWS = 256  # converted at a time, so that memory holds little beside the image twice
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
)

# Whatever a user can act on is raised below, and so is the limit on pixels.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


class UndecodableImage(InputError):  # noqa: N818 - it names what is wrong with the image
    """The bytes are not a whole image of a known format."""


def decode(data: bytes) -> RGBImage:
    """Return the pixels as stored, uint8 RGB, shape (H, W, 3), contiguous.

    An EXIF orientation is ignored, an alpha channel dropped, and of an animation the first frame
    is taken. JPEGs come out bit for bit as Pillow decodes them, in about half the time
    (libjpeg-turbo without copies), but a damaged one is refused where Pillow would fill it with
    grey. Of colours with more bits a channel (PNG, HEIC, AVIF) the higher 8 are taken.

    Raises:
        UndecodableImage: damaged, of an unknown format, of more than 2**28 pixels, or of a pixel
            mode that has no 8-bit RGB (grey with 16 bits, floating point, CIELAB).
    """
    if not data.startswith(_JPEG_START):
        return _decode_other(data)
    try:
        return _decode_jpeg(data)
    except ValueError:  # damaged, or only odd
        pixels = _decode_other(data)
    if wrong := damage(data):
        raise UndecodableImage(wrong)
    return pixels


def open_header(data: bytes) -> Image.Image:
    """Return the image as Pillow opens it: format, size and tables are read, pixels are not.

    What the bytes are decides, and never a file's name.

    Raises:
        UndecodableImage: the format is unknown, the header damaged, or the image too large.
    """
    if data[4:8] == _BOX:
        _know_heif()
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise UndecodableImage(_unknown(data)) from error
    except _PILLOW_ERRORS as error:
        raise UndecodableImage(f"damaged header: {_words(error)}") from error
    _check_size(*image.size)
    return image


def _know_heif() -> None:
    # Imported for those who have such images: its library takes as long to load as all of Pillow.
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)


def _check_size(width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        raise UndecodableImage(
            f"{width} x {height} pixels, more than {_MAX_PIXELS:,}; shrink it, or cut it to parts"
        )


def _decode_jpeg(data: bytes) -> RGBImage:
    """Return the pixels of a JPEG about which libjpeg has nothing to say.

    Raises:
        ValueError: it has, or its colours are ones that Pillow converts otherwise.
    """
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK") or height * width > _MAX_PIXELS:
        raise ValueError(colours)
    # libjpeg-turbo writes rows that begin at a multiple of 32 bytes past the caches, where
    # whoever looks at a small image next waits for them. After an odd place few or none do.
    memory = np.empty(1 + height * width * 3, np.uint8)
    pixels: RGBImage = simplejpeg.decode_jpeg(data, buffer=memory[1:])
    return pixels


def _decode_other(data: bytes) -> RGBImage:
    with open_header(data) as image:
        if image.mode not in _EIGHT_BIT_MODES:
            found = _OTHER_MODES.get(image.mode) or f"pixel mode {image.mode}: 16 bits a channel"
            raise UndecodableImage(f"{image.format} with {found}; {_CURE}")
        try:
            return _to_rgb(image)
        except _PILLOW_ERRORS as error:
            raise UndecodableImage(f"damaged {image.format}: {_words(error)}") from error


def _to_rgb(image: Image.Image) -> RGBImage:
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        rows = image.crop((0, top, width, min(top + _ROWS, height)))
        # A palette with transparency has no direct way to RGB in Pillow.
        opaque = rows.convert("RGBA") if rows.has_transparency_data else rows
        pixels[top : top + _ROWS] = np.asarray(opaque.convert("RGB"))
    return pixels


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _unknown(data: bytes) -> str:
    """Return what is known of an image that Pillow does not."""
    if data.startswith(_TIFF_STARTS):
        try:
            return _tiff_in_words(data)
        except _PILLOW_ERRORS:
            return "damaged TIFF: its tags cannot be read"
    for start, name in _OTHER_FORMATS.items():
        if data.startswith(start):
            return f"{name} is not read here; {_CURE}"
    return f"unknown format, starts with {data[:12]!r}" if data else "the file is empty"


def _tiff_in_words(data: bytes) -> str:
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    bits = tags[TiffImagePlugin.BITSPERSAMPLE]
    kind = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]
    samples = f"{len(bits)} x {bits[0]}-bit {_SAMPLE_FORMATS.get(kind, 'integers')}"
    return f"TIFF with {samples} a pixel; {_CURE}"


# Not a stuffed zero, a fill byte or a restart marker: those belong to the data of a scan.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


_START, _END = b"\xff\xd8", b"\xff\xd9"


_SEQUENTIAL, _SCAN, _END_OF_IMAGE = {0xC0, 0xC1}, 0xDA, 0xD9


_APPLICATION_AND_COMMENT = {*range(0xE0, 0xF0), 0xFE}  # no pixel depends on what these segments say


_WHOLE_SPECTRUM = bytes([0, 63, 0])  # the only parameters of a scan that is sequential


_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


# Data that the decoder has no use for: more means that it lost its way in the data before, as after
# a flipped bit; encoders that pad do so by a few bytes, or by one value.
_PADDING = 16


_FILLER = b"\x5a\xa5" * _PADDING


def damage(data: bytes) -> str:
    """Return what is wrong with the pixels of a JPEG; an empty string: they are all there.

    A flipped bit that leaves the data as long as they were shows nowhere but in the picture.
    """
    try:
        *head, scan = _segments(data)
    except ValueError as error:
        return str(error)
    before = b"".join(head)
    end = len(scan)
    # What the decoder has read ahead is not counted as left over, but next time.
    while found := _LEFT_OVER.search(complaint := _complaint(before + scan[:end] + _END)):
        end -= int(found[1])
        padding = scan[end:]
        if len(padding) > _PADDING and len(set(padding)) > 1:
            break
    if "subsampling" in complaint:
        complaint = "" if _ends_with(before, scan) else "corrupt JPEG data"
    return complaint


def _complaint(data: bytes) -> str:
    """Return the first warning or error of libjpeg."""
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError as error:
        return str(error)
    return ""


def _segments(data: bytes) -> Iterator[bytes]:
    """Yield what the pixels of a JPEG depend on, in its order; last, the data of the last scan.

    Raises:
        ValueError: the end is missing.
    """
    yield _START
    at, scan, is_sequential = len(_START), 0, False
    while marker := _MARKER.search(data, at):
        if scan:
            yield data[scan : marker.start()]
        code, at = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            return
        at += int.from_bytes(data[at : at + 2])
        scan = at if code == _SCAN else 0
        is_sequential |= code in _SEQUENTIAL
        segment = data[marker.start() : at]
        if code == _SCAN and is_sequential:
            segment = segment[:-3] + _WHOLE_SPECTRUM
        if code not in _APPLICATION_AND_COMMENT:
            yield segment
    raise ValueError("truncated JPEG: no end of image")


def _ends_with(before: bytes, scan: bytes) -> bool:
    """Return whether decoding needs the data of the last scan to their end, and no more.

    Pillow, which reads any sampling, keeps libjpeg's warnings to itself. What it makes of missing
    data changes with what is put there; of data that nobody reads, nothing changes.
    """
    padding = _PADDING + len(scan) - len(scan.rstrip(scan[-1:]))
    pixels, with_more, with_less = (
        np.asarray(Image.open(io.BytesIO(before + data + _END)))
        for data in (scan, scan + _FILLER, scan[:-padding])
    )
    ends_before = len(scan) > padding and np.array_equal(pixels, with_less)
    return np.array_equal(pixels, with_more) and not ends_before
