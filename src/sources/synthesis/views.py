"""Views: which square of a large picture one image shows, chosen so that classes are alike."""

import io

import numpy as np
from PIL import Image

from src.core.arrays import UInt8Array
from src.sources.synthesis.impairment import resize

SIDE = 200  # pixels of a view: the generators are run on views
LARGEST_WINDOW = 2048  # native pixels, as in the impairment
CANDIDATES = 6
DETAILS = (3.0, 9.0)  # grey levels from pixel to pixel; what every source of pictures can offer


def decode_picture(data: bytes, frame: int, skip_top: float, skip_bottom: float) -> UInt8Array:
    """Return RGB pixels (H, W, 3) without the fractions of the height that hold captions.

    `frame` is the one to take of an animation, from 0.
    """
    with Image.open(io.BytesIO(data)) as image:
        image.seek(frame)
        pixels = np.array(image.convert("RGB"))
    height = len(pixels)
    return pixels[round(skip_top * height) : height - round(skip_bottom * height)]


def cut_view(
    picture: UInt8Array, random: np.random.Generator, detail_kept: float = 1.0
) -> UInt8Array:
    """Return a random square window of `picture`, resized to 200 x 200 pixels.

    Of several windows it is the one whose detail is nearest to a random aim. Otherwise the size
    of a file alone would give the class away: bare walls are photographs, generators smooth. One
    that keeps only `detail_kept` of the detail is given busier windows.
    """
    aim = np.exp(random.uniform(*np.log(DETAILS))) / detail_kept
    views = [resize(_window(picture, random), SIDE) for _ in range(CANDIDATES)]
    return min(views, key=lambda view: abs(np.log((detail(view) + 0.01) / aim)))


def detail(image: UInt8Array) -> float:
    """Return the mean difference, in grey levels, between pixels beside or above each other."""
    luma = np.asarray(Image.fromarray(image).convert("L"), dtype=np.int16)  # (H, W)
    return float(np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()) / 2


def _window(picture: UInt8Array, random: np.random.Generator) -> UInt8Array:
    # Log-uniform side: from the picture's own pixels to all that is shown of it.
    height, width, _ = picture.shape
    largest = min(height, width, LARGEST_WINDOW)
    side = round(np.exp(random.uniform(np.log(min(SIDE, largest)), np.log(largest))))
    top = random.integers(height - side, endpoint=True)
    left = random.integers(width - side, endpoint=True)
    return picture[top : top + side, left : left + side]
