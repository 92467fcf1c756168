"""Judged images -> what a detector is worth on them at its frozen threshold, with intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.core.arrays import FloatArray
from src.core.tables import FAKE
from src.evaluation.calibration import Calibration
from src.evaluation.intervals import bootstrap_intervals
from src.evaluation.ranking import dot, ratio
from src.evaluation.results import EvaluateParams
from src.reporting.drawing import BLUE, GREY, canvas
from src.reporting.titles import TITLES
from studies.shared.paired import Scored

METRICS = ("mcc", "auroc", "ap", "recall", "specificity")
SHARES = ("unlike_training", "unsure", "judged")  # of all images
JUDGED = "judged_"  # before a metric: of the images that have a verdict and no warning
ALL_TITLES = {
    **{name: TITLES[name] for name in METRICS},
    "unlike_training": "share with the warning “unlike training”",
    "unsure": "share without that warning, but “unsure”",
    "judged": "share with a verdict and no warning",
    f"{JUDGED}right": "of these: called right",
    **{JUDGED + name: f"of these: {TITLES[name]}" for name in METRICS},
}


def with_verdicts(predictions: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Return `predictions` with `score`, `verdict` and `unlike_training`, as a judge gives them."""
    scores = calibration.probability(predictions["logit"].to_numpy())
    return predictions.assign(
        score=scores,
        verdict=calibration.verdicts(scores),
        unlike_training=predictions["distance"] > calibration.ood_distance,
    )


def figures(judged: pd.DataFrame, threshold: float, params: EvaluateParams) -> pd.DataFrame:
    """Return one row for each of ALL_TITLES: figure, value, low, high; NaN where there is none.

    `judged` has label, group, score, verdict and unlike_training.
    """
    unlike = judged["unlike_training"].to_numpy(dtype=bool)
    unsure = ~unlike & (judged["verdict"] == "unsure").to_numpy()
    kept = ~unlike & ~unsure
    is_right = ((judged["verdict"] == "fake") == (judged["label"] == FAKE)).to_numpy()
    flags = dict(zip(SHARES, (unlike, unsure, kept), strict=True))
    y_true, y_score = judged["label"].to_numpy(), judged["score"].to_numpy()
    everything = Scored(y_true, y_score, threshold)
    plain = Scored(y_true[kept], y_score[kept], threshold) if kept.any() else None

    def statistic(weights: FloatArray) -> dict[str, float]:
        of = {name: dot(weights, flag.astype(np.float64)) for name, flag in flags.items()}
        right = dot(weights, (kept & is_right).astype(np.float64))
        of_plain = plain.metrics(weights[kept]) if plain else dict.fromkeys(METRICS, np.nan)
        return {
            **everything.metrics(weights),
            **{name: value / float(weights.sum()) for name, value in of.items()},
            f"{JUDGED}right": float(ratio(right, of["judged"])),
            **{JUDGED + name: of_plain[name] for name in METRICS},
        }

    values = {n: v for n, v in statistic(np.ones(len(judged))).items() if not np.isnan(v)}
    ends = bootstrap_intervals(
        lambda weights: {name: statistic(weights)[name] for name in values},
        judged["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )
    rows = [
        (name, values[name], *ends[name]) if name in values else (name, np.nan, np.nan, np.nan)
        for name in ALL_TITLES
    ]
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high"])


def draw(table: pd.DataFrame) -> Figure:
    """Return a picture of `figures` of several sets (column `set`): AUROC, MCC, what is judged."""
    panels = ("auroc", "mcc", "judged", f"{JUDGED}right")
    with canvas(12, 1.5 + 0.35 * table["set"].nunique()) as figure:
        for axes, name in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
            _panel(axes, table[table["figure"] == name], ALL_TITLES[name])
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, title: str) -> None:
    places = np.arange(len(rows))
    colours = [GREY if name == "test" else BLUE for name in rows["set"]]
    axes.barh(places, rows["value"], color=colours, alpha=0.7)
    axes.hlines(places, rows["low"], rows["high"], color="black", linewidth=1)
    axes.set_yticks(places, list(rows["set"]))
    axes.set(title=title, xlim=(min(0.0, rows["low"].min()), 1.02))
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
