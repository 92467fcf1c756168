"""Curves of the robustness study -> one figure, a panel for each corruption."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.reporting.drawing import BLUE, GREY, ORANGE, canvas
from src.reporting.titles import TITLES
from studies.robustness.conditions import CLEAN

COLOURS = {"auroc": BLUE, "mcc": ORANGE}
X_LABELS = {
    "jpeg": "quality",
    "webp": "quality",
    "resize": "factor of both sides",
    "blur": "standard deviation, pixels",
    "noise": "standard deviation, of the full range",
    "crop": "part of both sides kept",
    "brightness": "factor",
    "screenshots": "screenshots of screenshots",
    "resize_jpeg": "factor of both sides, then JPEG",
    "jpeg_resize": "quality, then a screenshot",
}
# Rightwards is worse; where both ends are, the axis rises.
FALLING = {"jpeg", "webp", "crop", "jpeg_resize"}
COLUMNS = 4


def draw(table: pd.DataFrame) -> Figure:
    """Return the sheet of `curves`: AUROC and MCC with their intervals, dashed where untouched."""
    names = [name for name in table["corruption"].unique() if name != CLEAN]
    rows = -(-len(names) // COLUMNS)
    with canvas(13, 3.2 * max(rows, 1)) as figure:
        panels = figure.subplots(max(rows, 1), COLUMNS, sharey=True, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            _panel(axes, str(name), table[table["corruption"] == name])
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        if names:
            panels[0].legend(frameon=False, loc="lower left")
    return figure


def _panel(axes: Axes, name: str, curve: pd.DataFrame) -> None:
    for metric, colour in COLOURS.items():
        axes.axhline(curve[f"{metric}_clean"].iloc[0], color=colour, linestyle="--", linewidth=0.8)
        low, high = curve[f"{metric}_low"], curve[f"{metric}_high"]
        axes.fill_between(curve["level"], low, high, color=colour, alpha=0.15)
        axes.plot(curve["level"], curve[metric], "o-", ms=3, color=colour, label=TITLES[metric])
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(title=name, xlabel=X_LABELS[name])
    if name in FALLING:
        axes.invert_xaxis()
