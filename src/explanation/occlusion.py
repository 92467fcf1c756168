"""An image and a detector -> which of its parts speak for fake, and which for real."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.core.arrays import FloatArray
from src.images.crops import Crops
from src.images.decode import RGBImage
from src.models.shared.log_odds import fake_logit

FAKE_COLOUR, REAL_COLOUR = (
    (221, 107, 32),
    (49, 151, 149),
)  # those of fake and real in reporting/drawing.py
_STRENGTH = 0.75  # of the colour where the heat is greatest


def occlusion(
    image: RGBImage,
    crop: Callable[[RGBImage], Crops],
    detect: Callable[[Crops], NDArray[np.floating]],
    cells: int,
) -> FloatArray:
    """Return what each of `cells` x `cells` parts adds to the log odds of fake.

    A part is painted with the mean colour of the image, and the log odds fall by so much. `crop`
    and `detect` (crops -> logits) are those that the image is judged with; crops that a part does
    not touch are not computed again. A part that no crop shows adds 0.

    Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks,
    section 4.2.
    """
    colour = image.reshape(-1, 3).mean(0).round().astype(np.uint8)
    whole = crop(image)
    logits = np.asarray(detect(whole), dtype=np.float64)
    odds = _odds(logits)
    heat = np.zeros((cells, cells))
    painted = image.copy()
    rows, columns = (
        np.linspace(0, side, cells + 1).round().astype(int) for side in image.shape[:2]
    )
    for row, column in np.ndindex(cells, cells):
        part = slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])
        painted[part] = colour
        crops = crop(painted)
        changed = np.flatnonzero((crops != whole).any(axis=(1, 2, 3)))
        if len(changed):
            mixed = logits.copy()
            mixed[changed] = detect(crops[changed])
            heat[row, column] = odds - _odds(mixed)
        painted[part] = image[part]
    return heat


def _odds(logits: FloatArray) -> float:
    return float(fake_logit(logits.mean(0, keepdims=True))[0])


def paint(image: RGBImage, heat: FloatArray, longest: int) -> Image.Image:
    """Return `image` in grey, no side above `longest` pixels, coloured by `heat` of any shape.

    Orange parts speak for fake, teal ones for real; the strongest part has the full colour, so
    that colours compare within an image, not between images.
    """
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest))
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    size = picture.width, picture.height
    smooth = cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR)[..., np.newaxis]
    share = _STRENGTH * np.abs(smooth) / max(float(np.abs(heat).max()), 1e-12)
    colour = np.where(smooth > 0, FAKE_COLOUR, REAL_COLOUR)
    mixed = grey * (1 - share) + colour * share
    return Image.fromarray(mixed.round().astype(np.uint8))
