"""Windows of the sample's pictures: what of a large photograph one image shows."""

import io

import numpy as np
from PIL import Image

from src.sources.impairment import UInt8Array, resize

SIDE = 200  # pixels of a view: the generators are run on views
LARGEST_WINDOW = 800  # native pixels: beyond it, shrinking hides what camera or generator left
PLAIN = 12.0  # standard deviation of luma, in grey levels, below which a window is a bare wall
ATTEMPTS = 8


def decode_picture(data: bytes, skip_top: float, skip_bottom: float) -> UInt8Array:
    """Return the RGB pixels (H, W, 3) without the fractions of its height that hold captions."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"))
    height = len(pixels)
    return pixels[round(skip_top * height) : height - round(skip_bottom * height)]


def cut_view(picture: UInt8Array, random: np.random.Generator) -> UInt8Array:
    """Return a random square window of `picture` as 200 x 200 pixels, if possible not a plain one.

    Its side is log-uniform between 200 native pixels (the picture's own pixels) and the short side.
    """
    for _ in range(ATTEMPTS):
        window = _window(picture, random)
        if window.mean(axis=2).std() >= PLAIN:
            break
    return resize(window, SIDE)


def _window(picture: UInt8Array, random: np.random.Generator) -> UInt8Array:
    height, width, _ = picture.shape
    largest = min(height, width, LARGEST_WINDOW)
    side = round(np.exp(random.uniform(np.log(min(SIDE, largest)), np.log(largest))))
    top = random.integers(height - side, endpoint=True)
    left = random.integers(width - side, endpoint=True)
    return picture[top : top + side, left : left + side]
