"""Tables of src/evaluation/plot_tables.py -> the pictures that sum up a detector."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.reporting.drawing import BLUE, COLOURS, GREY, canvas

FOREST_ROWS = 40
LEVEL = 0.05


def forest(slices: pd.DataFrame) -> Figure:
    """Return the share called right in each slice, the worst first: at most FOREST_ROWS of them."""
    shown = slices.head(FOREST_ROWS)
    with canvas(9, 1.5 + 0.22 * len(shown)) as figure:
        _slices(figure.add_subplot(), shown, len(slices))
    return figure


def _slices(axes: Axes, slices: pd.DataFrame, total: int) -> None:
    rows = np.arange(len(slices))
    share, colours = slices["correct"], slices["label"].map(COLOURS)
    alphas = slices["few"].map({True: 0.3, False: 1.0})
    ends = zip(slices["correct_low"], slices["correct_high"], colours, alphas, strict=True)
    for row, (low, high, colour, alpha) in enumerate(ends):
        axes.plot([low, high], [row, row], color=colour, alpha=alpha, linewidth=2)
    axes.scatter(share, rows, c=colours, zorder=2, s=18)
    axes.scatter(share - slices["difference"], rows, marker="|", c="black", zorder=3, s=60)
    stars = slices["p_adjusted"].lt(LEVEL).map({True: " *", False: ""})
    counts = slices.apply(lambda row: f" ({row['groups']} groups)", axis=1)
    axes.set_yticks(rows, slices["name"] + counts + stars, fontsize=8)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set(
        title=f"Called right, by slice: {len(slices)} of {total}, the worst first",
        xlabel="share; black: the rest of the class; pale: few groups; * worse than the rest, "
        f"Holm's p < {LEVEL}",
        xlim=(-0.02, 1.02),
    )


def overview(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Return PR curve, confusion, reliability, scores and methods of one evaluation on a sheet."""
    with canvas(12, 7) as figure:
        grid = figure.add_gridspec(2, 3)
        _pr(figure.add_subplot(grid[0, 0]), tables["pr"], tables["metrics"])
        _confusion(figure.add_subplot(grid[0, 1]), tables["confusion"])
        _reliability(
            figure.add_subplot(grid[1, 0]), tables["reliability"], tables["reliability_before"]
        )
        _scores(figure.add_subplot(grid[1, 1]), tables["scores"])
        _methods(figure.add_subplot(grid[:, 2]), tables["methods"])
    return figure


def _pr(axes: Axes, pr: pd.DataFrame, metrics: pd.DataFrame) -> None:
    ap = metrics.set_index("metric").loc["ap"]
    axes.fill_between(
        pr["recall"], pr["precision_low"], pr["precision_high"], step="pre", color=BLUE, alpha=0.2
    )
    axes.step(pr["recall"], pr["precision"], where="pre", color=BLUE)
    axes.set(
        title=f"Precision and recall, AP {ap.value:.3f} [{ap.value_low:.3f}, {ap.value_high:.3f}]",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def _confusion(axes: Axes, confusion: pd.DataFrame) -> None:
    share = confusion.pivot_table(index="actual", columns="predicted", values="share", sort=False)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for position, outcome in enumerate(confusion.itertuples()):
        axes.text(
            position % 2,
            position // 2,
            f"{outcome.images:,}\n{outcome.share:.1%}",
            ha="center",
            va="center",
            color="white" if float(str(outcome.share)) > 0.5 else "black",
        )
    axes.set(title="Confusion at the frozen threshold", xlabel="predicted", ylabel="actual")
    axes.set_xticks([0, 1], list(share.columns))
    axes.set_yticks([0, 1], list(share.index))


def _reliability(axes: Axes, reliability: pd.DataFrame, before: pd.DataFrame) -> None:
    share = reliability["fake_share"]
    errors = [share - reliability["fake_share_low"], reliability["fake_share_high"] - share]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.plot(
        before["score"], before["fake_share"], color=GREY, marker="x", ms=4, label="as trained"
    )
    axes.errorbar(
        reliability["score"],
        share,
        errors,
        color=BLUE,
        marker="o",
        capsize=2,
        ms=4,
        label="calibrated",
    )
    axes.set(
        title="Reliability", xlabel="mean score", ylabel="share of fakes", xlim=(0, 1), ylim=(0, 1)
    )
    axes.legend(frameon=False, loc="upper left")


def _scores(axes: Axes, scores: pd.DataFrame) -> None:
    for label, part in scores.groupby("label", sort=False):
        edges = np.append(part["score"], part["score_high"].iloc[-1])
        axes.stairs(part["share"], edges, fill=True, alpha=0.5, color=COLOURS[str(label)])
        axes.stairs(part["share"], edges, color=COLOURS[str(label)], label=label)
    axes.set(title="Scores by class", xlabel="score", ylabel="share of the class", xlim=(0, 1))
    axes.legend(frameon=False)


def _methods(axes: Axes, methods: pd.DataFrame) -> None:
    names = methods["name"] + methods["few"].map({True: " (few)", False: ""})
    share = methods["correct"]
    errors = [share - methods["correct_low"], methods["correct_high"] - share]
    rows = np.arange(len(methods))
    axes.barh(rows, share, color=methods["label"].map(COLOURS).tolist(), alpha=0.6)
    axes.errorbar(share, rows, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.set_yticks(rows, names, fontsize=8 if len(methods) < 20 else 6)
    axes.invert_yaxis()
    axes.set(title="Called right, by method", xlabel="share", xlim=(0, 1))
