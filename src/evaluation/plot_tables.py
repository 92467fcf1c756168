"""Predictions and results -> the small tables that `dvc plots` draws (.dvc/plots/*.json)."""

import numpy as np
import pandas as pd
from scipy.special import expit

from src.core.tables import FAKE, LABELS, REAL
from src.evaluation import metrics
from src.evaluation.intervals import rate_intervals
from src.evaluation.ranking import Confusion, Ranking
from src.evaluation.results import CURVE_POINTS, Results

HISTOGRAM_BINS = 40


def evaluation_tables(
    test: pd.DataFrame, results: Results, bins: int, confidence: float
) -> dict[str, pd.DataFrame]:
    """Return the tables of plots/evaluate by name; `bins` parts of [0, 1] for the reliability."""
    return {
        "metrics": metrics_table(results),
        "pr": results.pr,
        "roc": roc_table(test),
        "confusion": confusion_table(results.confusion),
        "reliability": reliability_table(test, bins, confidence),
        "reliability_before": reliability_table(
            test.assign(score=expit(test["logit"])), bins, confidence
        ),
        "scores": scores_table(test),
        "methods": methods_table(results),
    }


def metrics_table(results: Results) -> pd.DataFrame:
    """Return one row per metric: metric, value, value_low, value_high."""
    rows = [(name, *values) for name, values in results.metrics.items()]
    return pd.DataFrame(rows, columns=["metric", "value", "value_low", "value_high"])


def methods_table(results: Results) -> pd.DataFrame:
    """Return `results.methods` behind a column `name`, which tells a method's classes apart."""
    methods = results.methods
    suffix = methods["label"].map({LABELS[REAL]: " (real)", LABELS[FAKE]: ""})
    return pd.concat([(methods["method"] + suffix).rename("name"), methods], axis=1)


def roc_table(test: pd.DataFrame) -> pd.DataFrame:
    """Return the ROC curve from (0, 0) to (1, 1): false_positive_rate, recall, threshold.

    At most `CURVE_POINTS` rows. The first threshold, which nothing passes, is written as 1.
    """
    curve = Ranking(test["label"].to_numpy(), test["score"].to_numpy()).curve()
    steps = np.linspace(0, len(curve.thresholds) - 1, CURVE_POINTS - 1).round().astype(np.int64)
    steps = np.unique(steps)
    rates = pd.DataFrame(
        {
            "false_positive_rate": curve.false_positives[steps] / curve.false_positives[-1],
            "recall": curve.true_positives[steps] / curve.true_positives[-1],
            "threshold": curve.thresholds[steps],
        }
    )
    origin = pd.DataFrame({"false_positive_rate": [0.0], "recall": [0.0], "threshold": [1.0]})
    return pd.concat([origin, rates], ignore_index=True)


def confusion_table(counts: Confusion) -> pd.DataFrame:
    """Return one row per outcome: actual, predicted, images, share (of the actual class)."""
    cells = [
        (REAL, REAL, counts.true_negatives),
        (REAL, FAKE, counts.false_positives),
        (FAKE, REAL, counts.false_negatives),
        (FAKE, FAKE, counts.true_positives),
    ]
    table = pd.DataFrame(cells, columns=["actual", "predicted", "images"])
    table["images"] = table["images"].astype("int64")
    table["share"] = table["images"] / table.groupby("actual")["images"].transform("sum")
    return table.assign(**{side: table[side].map(LABELS) for side in ("actual", "predicted")})


def reliability_table(test: pd.DataFrame, bins: int, confidence: float) -> pd.DataFrame:
    """Return one row per part of [0, 1] that holds scores.

    Columns: score (mean), fake_share, fake_share_low, fake_share_high, images.
    """
    parts = metrics.score_bins(test["score"].to_numpy(), bins)
    _, codes = np.unique(parts, return_inverse=True)
    fake = test["label"].to_numpy() == FAKE
    ends = rate_intervals(fake, codes, test["group"].to_numpy(), confidence)
    images = np.bincount(codes)
    return pd.DataFrame(
        {
            "score": np.bincount(codes, test["score"]) / images,
            "fake_share": np.bincount(codes, fake) / images,
            "fake_share_low": ends.low,
            "fake_share_high": ends.high,
            "images": images,
        }
    )


def scores_table(test: pd.DataFrame) -> pd.DataFrame:
    """Return the histogram of the scores of each class.

    Columns: label (real or fake), score and score_high (ends of the bin), images, share (of the
    class).
    """
    tables = []
    for label, name in LABELS.items():
        scores = test.loc[test["label"] == label, "score"]
        images, edges = np.histogram(scores, HISTOGRAM_BINS, (0, 1))
        columns = {"score": edges[:-1], "score_high": edges[1:], "images": images}
        tables.append(pd.DataFrame({"label": name, **columns, "share": images / len(scores)}))
    return pd.concat(tables, ignore_index=True)


def worst_errors(test: pd.DataFrame, threshold: float, count: int) -> pd.DataFrame:
    """Return the `count` most confident errors of each kind, the worst first.

    The columns of `test`, preceded by `error`: "false positive" or "false negative".
    """
    reals = test[(test["label"] == REAL) & (test["score"] >= threshold)]
    fakes = test[(test["label"] == FAKE) & (test["score"] < threshold)]
    worst = [
        reals.sort_values(["score", "image_id"], ascending=[False, True]).head(count),
        fakes.sort_values(["score", "image_id"]).head(count),
    ]
    names = ("false positive", "false negative")
    return pd.concat(
        [table.assign(error=name) for name, table in zip(names, worst, strict=True)],
        ignore_index=True,
    )
