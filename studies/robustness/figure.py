"""Curves of the robustness study -> one figure, a panel for each corruption."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.evaluation.pictures import BLUE, GREY
from studies.robustness.conditions import CLEAN

ORANGE = "#dd6b20"
COLOURS = {"auroc": BLUE, "mcc": ORANGE}
TITLES = {"auroc": "AUROC", "mcc": "MCC"}
X_LABELS = {
    "jpeg": "quality",
    "webp": "quality",
    "resize": "factor of both sides",
    "blur": "standard deviation, pixels",
    "noise": "standard deviation, of the full range",
    "crop": "part of both sides kept",
    "brightness": "factor",
    "screenshots": "screenshots of screenshots",
}
# Rightwards is worse; where both ends are, the axis rises.
FALLING = {"jpeg", "webp", "crop"}
COLUMNS = 4


def draw(table: pd.DataFrame) -> Figure:
    """Return the sheet of `curves`: AUROC and MCC with their intervals, dashed where untouched."""
    names = [name for name in table["corruption"].unique() if name != CLEAN]
    rows = -(-len(names) // COLUMNS)
    # The defaults, so that a reader's own matplotlibrc does not change a committed picture.
    with mpl.rc_context({**mpl.rcParamsDefault, "font.size": 9, "axes.titlesize": 10}):
        figure = Figure(figsize=(13, 3.2 * max(rows, 1)), layout="constrained")
        panels = figure.subplots(max(rows, 1), COLUMNS, sharey=True, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            _panel(axes, str(name), table[table["corruption"] == name])
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        if names:
            panels[0].legend(frameon=False, loc="lower left")
        figure.draw_without_rendering()  # text takes its font when it is drawn
    return figure


def _panel(axes: Axes, name: str, curve: pd.DataFrame) -> None:
    for figure, colour in COLOURS.items():
        axes.axhline(curve[f"{figure}_clean"].iloc[0], color=colour, linestyle="--", linewidth=0.8)
        low, high = curve[f"{figure}_low"], curve[f"{figure}_high"]
        axes.fill_between(curve["level"], low, high, color=colour, alpha=0.15)
        axes.plot(curve["level"], curve[figure], "o-", ms=3, color=colour, label=TITLES[figure])
    axes.axhline(0, color=GREY, linewidth=0.5)
    axes.set(title=name, xlabel=X_LABELS[name])
    if name in FALLING:
        axes.invert_xaxis()
