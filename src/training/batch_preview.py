"""Crops and their captions -> a PNG, to see what a network sees."""

import math
from collections.abc import Iterable
from pathlib import Path

from src.images.crops import Crops
from src.reporting.drawing import canvas, save

_COLUMNS = 8


def draw_batch(crops: Crops, captions: Iterable[str], path: Path) -> None:
    """Draw `crops` (B, size, size, 3) pixel by pixel, with a caption above each."""
    rows = math.ceil(len(crops) / _COLUMNS)
    with canvas(1.5 * _COLUMNS, 1.9 * rows) as figure:
        axes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        for axis, crop, caption in zip(axes, crops, captions, strict=False):
            axis.imshow(crop, interpolation="nearest")
            axis.set_title(caption, fontsize=8)
        for axis in axes:
            axis.set_axis_off()
    save(figure, path)
