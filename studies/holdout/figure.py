"""Table of the holdout study -> bars: each generator left out, beside trained on."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.reporting.drawing import BLUE, GREY, canvas

TITLES = {"auroc": "AUROC against photographs", "recall": "Recall at the frozen threshold"}
_HEIGHT = 0.38  # of a bar


def draw(table: pd.DataFrame) -> Figure:
    """Return the sheet: a panel for AUROC, one for recall, with intervals."""
    with canvas(11, 1.6 + 0.55 * len(table)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, TITLES, strict=True):
            _panel(axes, table, name)
        names = table["left_out"] + table["few"].map({True: " (few)", False: ""})
        panels[0].set_yticks(np.arange(len(table)), names)
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _panel(axes: Axes, table: pd.DataFrame, name: str) -> None:
    rows = np.arange(len(table))
    for prefix, label, colour, offset in (
        ("", "left out of training", BLUE, -_HEIGHT / 2),
        ("trained_", "trained on (main run)", GREY, _HEIGHT / 2),
    ):
        values = table[prefix + name]
        errors = [
            (values - table[f"{prefix}{name}_low"]).clip(lower=0),
            (table[f"{prefix}{name}_high"] - values).clip(lower=0),
        ]
        axes.barh(rows + offset, values, _HEIGHT, color=colour, alpha=0.7, label=label)
        axes.errorbar(
            values, rows + offset, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=2
        )
        if name == "recall":  # it says little without what the same threshold costs
            for row, share in zip(rows, table[f"{prefix}specificity"], strict=True):
                _beside(axes, row + offset, f"{share:.2f}")
    if name == "recall":
        _beside(axes, -1.2 * _HEIGHT - 0.5, "specificity")
    if name == "auroc":
        axes.axvline(0.5, color="black", linestyle="--", linewidth=0.8)  # chance
    axes.set(title=TITLES[name], xlim=(0, 1.02))


def _beside(axes: Axes, height: float, text: str) -> None:
    """Write to the right of the panel, where no bar nor interval is."""
    axes.text(1.02, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
