"""The published impairment of the ArtiFact data set: random crop, 200 x 200 pixels, JPEG.

Real and generated images pass through it alike, so that neither size nor container nor quality
gives the class away.

Source: Rahman et al. 2023, "ArtiFact: A Large-Scale Dataset with Artificial and Factual Images for
Generalizable and Robust Synthetic Image Detection", arXiv:2302.11970.
"""

import io

import numpy as np
from PIL import Image

from src.core.arrays import UInt8Array

SIDE = 200  # pixels
QUALITIES = (65, 100)  # both included


def impair(image: UInt8Array, random: np.random.Generator) -> bytes:
    """Return a 200 x 200 JPEG of a random square of `image` (H, W, 3), RGB.

    Raises:
        ValueError: the shorter side is below 160 pixels, the smallest square that is cut.
    """
    height, width, _ = image.shape
    short = min(height, width)
    smallest, largest = max(short * 5 // 8, 160), min(short, 2048)
    if smallest > largest:
        raise ValueError(f"an image of {width} x {height} pixels is smaller than {smallest}")
    side = int(random.integers(smallest, largest, endpoint=True))
    left = int(random.integers(0, width - side, endpoint=True))
    top = int(random.integers(0, height - side, endpoint=True))
    quality = int(random.integers(*QUALITIES, endpoint=True))
    square = resize(image[top : top + side, left : left + side], SIDE)
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def resize(image: UInt8Array, side: int) -> UInt8Array:
    """Return `image` as `side` x `side` pixels (bicubic, with anti-aliasing when it shrinks)."""
    # A gap of 3 gives the same picture to the eye in a fraction of the time when much is shrunk.
    resized = Image.fromarray(image).resize(
        (side, side), Image.Resampling.BICUBIC, reducing_gap=3.0
    )
    return np.asarray(resized)
