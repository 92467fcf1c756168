"""Tables of the cross-validation -> one figure: PR curves and metrics of the folds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.reporting.drawing import BLUE, GREY, canvas
from src.reporting.titles import HEADLINES, TITLES

# Told apart by colour-blind readers too.
# Source: Okabe and Ito 2008, Color Universal Design; without its yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def draw(folds: pd.DataFrame, curves: pd.DataFrame, document: Mapping[str, Any]) -> Figure:
    """Return the sheet; `curves` has fold, recall and precision, `document` is `summary`'s."""
    with canvas(11, 5) as figure:
        left, right = figure.subplots(1, 2)
        _curves(left, folds, curves)
        _metrics(right, folds, document)
    return figure


def _curves(axes: Axes, folds: pd.DataFrame, curves: pd.DataFrame) -> None:
    average = folds.set_index("fold")["ap"]
    for number, (fold, curve) in enumerate(curves.groupby("fold")):
        axes.step(
            curve["recall"],
            curve["precision"],
            where="pre",
            linewidth=1.2,
            color=COLOURS[number % len(COLOURS)],
            label=f"fold {fold}, AP {average[fold]:.3f}",
        )
    axes.set(
        title="Precision and recall, by fold",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(frameon=False, loc="lower left")


def _metrics(axes: Axes, folds: pd.DataFrame, document: Mapping[str, Any]) -> None:
    offsets = np.linspace(-0.28, 0.28, len(folds))
    for column, name in enumerate(HEADLINES):
        values = folds[name]
        errors = [values - folds[f"{name}_low"], folds[f"{name}_high"] - values]
        low, high = document[f"{name}_low"], document[f"{name}_high"]
        axes.fill_betweenx([low, high], column - 0.36, column + 0.36, color=BLUE, alpha=0.15)
        axes.hlines(document[name], column - 0.36, column + 0.36, color=BLUE)
        axes.errorbar(column + offsets, values, errors, fmt="none", ecolor=GREY, elinewidth=1)
        for number, value in enumerate(values):
            axes.plot(
                column + offsets[number], value, "o", ms=4, color=COLOURS[number % len(COLOURS)]
            )
    axes.set(title="Folds, mean and interval of the mean", ylim=(None, 1.02))
    axes.set_xticks(range(len(HEADLINES)), [TITLES[name].replace(" ", "\n") for name in HEADLINES])
    axes.grid(axis="y", color=GREY, alpha=0.3)
