"""A picture of pixels as they are stored -> the picture as people see the file."""

from PIL import Image, ImageOps

from src.images.decode import open_header

_ORIENTATION = 0x0112  # of EXIF


def upright(picture: Image.Image, data: bytes) -> Image.Image:
    """Return `picture`, made of the pixels in the file `data`, turned as its EXIF data say."""
    picture.getexif()[_ORIENTATION] = open_header(data).getexif().get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(picture)
