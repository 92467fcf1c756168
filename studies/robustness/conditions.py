"""studies/robustness/params.yaml -> the conditions that test images are put in."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.params import STRICT
from src.core.tables import Schema

PARAMS = Path(__file__).with_name("params.yaml")
CLEAN = "clean"  # the images as they are
# The level that leaves an image as it is; no quality of a lossy format does.
UNTOUCHED = {
    "resize": 1.0,
    "blur": 0.0,
    "noise": 0.0,
    "crop": 1.0,
    "brightness": 1.0,
    "screenshots": 0.0,
}

_NO_CORRUPTIONS = {"processings", "max_images", "seed", "batch_size", "threads"}

Quality = Annotated[int, Field(ge=1, le=100)]
Positive = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(gt=0, le=4)]
Part = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class RobustnessParams:
    """Section `robustness` of studies/robustness/params.yaml."""

    jpeg: tuple[Quality, ...]
    webp: tuple[Quality, ...]
    resize: tuple[Factor, ...]  # of both sides
    blur: tuple[Positive, ...]  # standard deviation in pixels
    noise: tuple[Part, ...]  # standard deviation, of the full range
    crop: tuple[Part, ...]  # of both sides
    brightness: tuple[Factor, ...]
    screenshots: tuple[Annotated[int, Field(ge=1, le=20)], ...]
    resize_jpeg: tuple[Factor, ...]  # of both sides, then saved
    jpeg_resize: tuple[Quality, ...]  # then shown at another size and kept without loss
    processings: tuple[str, ...]  # of these conditions: how often do they change a verdict?
    max_images: Annotated[int, Field(gt=0)]  # of test, drawn
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    batch_size: Annotated[int, Field(gt=0)]  # crops at once
    threads: Annotated[int, Field(gt=0, le=256)]  # of the CPU, for a part of a batch: see Embedder

    def __post_init__(self) -> None:
        """Check that the processings are conditions."""
        known = [condition.column for condition in conditions(self)]
        for name in self.processings:
            if name not in known:
                raise ValueError(f"processings: {name!r} is no condition; choose from {known}")


class Condition(NamedTuple):
    """A corruption at one level."""

    corruption: str
    level: float

    @property
    def column(self) -> str:
        """Return the name of its column in the table of logits: `jpeg 90`, `resize 0.5`."""
        return f"{self.corruption} {self.level:g}"


def conditions(params: RobustnessParams) -> list[Condition]:
    """Return all corruptions at all levels, in the order of the class and rising."""
    return [
        Condition(field.name, float(level))
        for field in fields(RobustnessParams)
        if field.name not in _NO_CORRUPTIONS
        for level in sorted(set(getattr(params, field.name)))
    ]


def logits_schema(params: RobustnessParams) -> Schema:
    """Return the columns of the table of logits: one row per test image."""
    texts = dict.fromkeys(("image_id", "method", "group"), pa.string())
    columns = (CLEAN, *(condition.column for condition in conditions(params)))
    return {**texts, "label": pa.int64(), **dict.fromkeys(columns, pa.float64())}
