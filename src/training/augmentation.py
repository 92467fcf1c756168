"""Section `augment`: what happens to a training image, as a function of seed, epoch and image."""

import random
from collections.abc import Sequence
from typing import Annotated, Any

import albumentations as A  # noqa: N812 - the name that its documentation uses
import cv2
import numpy as np
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from src.core.params import STRICT
from src.images.crops import Crops, View
from src.images.decode import RGBImage
from src.training.processing import KERNELS, STEPS, Step, rescale


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{list(bounds)} is not [lowest, highest]")
    return bounds


Chance = Annotated[float, Field(ge=0, le=1)]  # per image and epoch
Ordered = AfterValidator(_ordered)
Sigma = Annotated[float, Field(ge=0, le=10)]  # pixels
Fraction = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0.1, le=10)]
Quality = Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True, config=STRICT)
class AugmentParams:
    """Section `augment` of params.yaml; real and fake images get exactly the same."""

    min_area: Annotated[float, Field(gt=0, le=1)]  # view "resized": smallest part of the image kept
    flip: Chance
    quarter_turns: Chance  # of a turn by 0, 90, 180 or 270 degrees
    rotate: Chance
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    blur: Chance
    blur_sigma: Annotated[tuple[Sigma, Sigma], Ordered]
    noise: Chance
    noise_std: Annotated[tuple[Fraction, Fraction], Ordered]  # of the full range
    brightness_contrast: Chance
    brightness_contrast_limit: Fraction
    rescale: Chance  # before the crop, by one of several kernels
    rescale_factor: Annotated[tuple[Factor, Factor], Ordered]
    jpeg: Chance
    jpeg_quality: Annotated[tuple[Quality, Quality], Ordered]
    webp: Chance
    webp_quality: Annotated[tuple[Quality, Quality], Ordered]


class Augmentation:
    """One random crop of an image, flipped, turned, blurred, ... as the parameters say.

    Geometry and colour have draws of their own: they are the same whatever else is switched on.
    """

    def __init__(self, params: AugmentParams, view: View, seed: int) -> None:
        """Draw from `seed`: another one gives other crops in every epoch."""
        # A margin that the last crop removes at random: otherwise the 8 x 8 grid of a codec would
        # always lie at the same place, which no image from elsewhere does.
        self.margin = 8 if params.jpeg or params.webp else 0
        geometry = _transforms(params, view, view.size + self.margin)
        self.pipeline = A.Compose(geometry, is_check_shapes=False)
        self.params, self.size, self.seed = params, view.size, seed
        self.steps: list[tuple[float, Step, tuple[float, float]]] = [
            (params.blur, STEPS["blur"], params.blur_sigma),
            (params.noise, STEPS["noise"], params.noise_std),
            (params.webp, STEPS["webp"], params.webp_quality),
            (params.jpeg, STEPS["jpeg"], params.jpeg_quality),
        ]

    def __call__(self, image: RGBImage, epoch: int, key: int) -> Crops:
        """Return what the network sees of image `key` in `epoch`, shape (1, size, size, 3).

        The draws belong to this image and epoch: neither the worker nor the order matters, and a
        resumed run sees what an uninterrupted one would have seen.
        """
        # Only the seed travels in `random.Random`: albumentations mixes both kinds of generator.
        numbers = np.random.default_rng([self.seed, epoch, key])
        # What `integers(2**63)` would give, in a tenth of the time.
        seed = numbers.bit_generator.random_raw() >> 1
        self.pipeline.set_random_state(numbers, random.Random(seed))
        draws = np.random.default_rng([self.seed, epoch, key, 1])
        if draws.random() < self.params.rescale:
            factor = float(np.exp(draws.uniform(*np.log(self.params.rescale_factor))))
            kernel = KERNELS[draws.integers(len(KERNELS))]
            image = rescale(image, factor, kernel, self.size + self.margin, draws)
        augmented: RGBImage = self.pipeline(image=image)["image"]
        return np.ascontiguousarray(self._processed(augmented, draws))[np.newaxis]

    def _processed(self, crop: RGBImage, draws: np.random.Generator) -> RGBImage:
        for chance, step, bounds in self.steps:
            if draws.random() < chance:
                crop = step(crop, draws, *bounds)
        top, left = draws.integers(self.margin + 1, size=2)
        return crop[top : top + self.size, left : left + self.size]


class QuarterTurns(A.RandomRotate90):  # type: ignore[misc]  # albumentations has no types
    """Turns by 90 degrees in OpenCV: those of numpy take two to four times as long."""

    def apply(self, img: RGBImage, factor: int, **params: Any) -> RGBImage:  # noqa: ARG002
        """Return `img` turned counterclockwise `factor` times, contiguous."""
        return cv2.rotate(img, _TURNS[factor]) if factor else img  # type: ignore[return-value]


_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def _transforms(params: AugmentParams, view: View, size: int) -> Sequence[A.BasicTransform]:
    limit = params.brightness_contrast_limit
    optional: list[tuple[float, type[A.BasicTransform], dict[str, Any]]] = [
        (params.flip, A.HorizontalFlip, {}),
        (params.quarter_turns, QuarterTurns, {}),
        (
            params.brightness_contrast,
            A.RandomBrightnessContrast,
            {"brightness_limit": (-limit, limit), "contrast_limit": (-limit, limit)},
        ),
    ]
    return [
        *_rotations(params),
        _first_crop(params, view, size),
        *(transform(p=chance, **options) for chance, transform, options in optional if chance),
    ]


def _rotations(params: AugmentParams) -> list[A.BasicTransform]:
    if not params.rotate:
        return []
    degrees = params.rotate_degrees
    # Before the crop: the corners that a rotation invents (mirrored) are mostly cut away.
    return [
        A.Rotate(
            limit=(-degrees, degrees),
            interpolation=cv2.INTER_CUBIC,
            border_mode=cv2.BORDER_REFLECT_101,
            p=params.rotate,
        )
    ]


def _first_crop(params: AugmentParams, view: View, size: int) -> A.BasicTransform:
    if view.resize:
        return A.RandomResizedCrop(
            size=(size, size),
            scale=(params.min_area, 1.0),
            interpolation=cv2.INTER_CUBIC,
            area_for_downscale="image",
        )
    return A.RandomCrop(size, size, pad_if_needed=True, border_mode=cv2.BORDER_REFLECT)
