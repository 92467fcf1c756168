"""How a detector sees an image: one size of crops, of the pixels as they are or resized."""

from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.params import STRICT
from src.images.decode import RGBImage

Crops = NDArray[np.uint8]  # (crops, size, size, 3)

_MAX_ASPECT = 32  # long side over short side of an image that is resized; more is cut at its ends


@dataclass(frozen=True, config=STRICT)
class View:
    """How a detector wants to see an image: a square of RGB pixels."""

    size: Annotated[int, Field(gt=0)]  # pixels a side
    # Whether the short side is brought to `size` before cropping. Resizing blurs the finest traces
    # of a generator; pretrained weights may need it all the same.
    resize: bool


class GridCrops:
    """Evaluation: an even grid of crops, the same in every epoch."""

    def __init__(self, view: View, per_side: int) -> None:
        """Take `per_side` crops along each side; a single one is centred."""
        self.view = view
        self.per_side = per_side

    def __call__(self, image: RGBImage, epoch: int = 0, key: int = 0) -> Crops:  # noqa: ARG002
        """Return the crops row by row, shape (per_side ** 2, size, size, 3)."""
        size = self.view.size
        fitted = fit_image(image, self.view)
        tops, lefts = (self._offsets(side - size) for side in fitted.shape[:2])
        return np.stack(
            [fitted[top : top + size, left : left + size] for top in tops for left in lefts]
        )

    def _offsets(self, slack: int) -> list[int]:
        if self.per_side == 1:
            return [slack // 2]
        return [round(slack * i / (self.per_side - 1)) for i in range(self.per_side)]


def fit_image(image: RGBImage, view: View) -> RGBImage:
    """Return `image` with both sides at least `view.size`: mirrored at its edges, or resized."""
    if view.resize:
        image = _middle(image)
        height, width = image.shape[:2]
        scale = view.size / min(height, width)
        # Area averages do not alias when shrinking; cubic is how BEiT-3 was trained.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        sides = max(view.size, round(width * scale)), max(view.size, round(height * scale))
        return np.asarray(cv2.resize(image, sides, interpolation=method), dtype=np.uint8)
    height, width = image.shape[:2]
    down, right = max(0, view.size - height), max(0, view.size - width)
    if not down and not right:
        return image
    borders = down // 2, down - down // 2, right // 2, right - right // 2
    return np.asarray(cv2.copyMakeBorder(image, *borders, cv2.BORDER_REFLECT), dtype=np.uint8)


def _middle(image: RGBImage) -> RGBImage:
    """Return what `_MAX_ASPECT` allows of an image: a line of pixels would grow to gigabytes."""
    height, width = image.shape[:2]
    longest = _MAX_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return image[top : top + longest, left : left + longest]
