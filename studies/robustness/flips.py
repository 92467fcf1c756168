"""Logits of several processings of each picture -> how often they change its verdict."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.core.arrays import FloatArray
from src.core.tables import LABELS
from src.evaluation.calibration import Calibration
from src.evaluation.intervals import bootstrap_intervals
from src.evaluation.ranking import dot
from src.evaluation.results import EvaluateParams
from src.reporting.markdown import markdown_table, with_interval
from studies.robustness.conditions import CLEAN

# Shares of pictures, but the first: of processings.
TITLES = {
    "changed": "processings that change the verdict",
    "any": "pictures with a changed verdict",
    "opposite": "pictures called real once and fake once, and never unsure of it",
}


def flips(
    logits: pd.DataFrame,
    processings: Sequence[str],
    calibration: Calibration,
    params: EvaluateParams,
) -> pd.DataFrame:
    """Return one row per class and one for all: pictures, images, and TITLES with their ends.

    A verdict is real or fake at the frozen threshold, and changes where it is not that of the
    untouched picture; `opposite` takes those outside of the band of "unsure" alone.
    """
    scores = calibration.probability(logits[[CLEAN, *processings]].to_numpy())
    is_fake = scores >= calibration.threshold
    changed = is_fake[:, 1:] != is_fake[:, :1]
    low, high = calibration.ends
    values = {
        "changed": changed.mean(1),
        "any": changed.any(1),
        "opposite": (scores < low).any(1) & (scores >= high).any(1),
    }
    table = pd.DataFrame(values, dtype=np.float64)
    rows = [_row("all", table, logits, params)]
    for label, name in LABELS.items():
        if len(part := logits[logits["label"] == label]):
            rows.append(_row(name, table.loc[part.index], part, params))
    return pd.DataFrame(rows)


def _row(
    name: str, table: pd.DataFrame, logits: pd.DataFrame, params: EvaluateParams
) -> dict[str, object]:
    columns = {column: table[column].to_numpy() for column in TITLES}

    def statistic(weights: FloatArray) -> dict[str, float]:
        return {name: dot(weights, column) / weights.sum() for name, column in columns.items()}

    ends = bootstrap_intervals(
        statistic,
        logits["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )
    row: dict[str, object] = {"pictures": name, "images": len(table)}
    for column, value in statistic(np.ones(len(table))).items():
        row |= {
            column: value,
            f"{column}_low": ends[column].low,
            f"{column}_high": ends[column].high,
        }
    return row


def flips_text(table: pd.DataFrame, processings: Sequence[str]) -> str:
    """Return the part of the page about `flips`, as Markdown."""
    rows = [
        (
            row["pictures"],
            *(with_interval(row[c], row[f"{c}_low"], row[f"{c}_high"]) for c in TITLES),
        )
        for row in table.to_dict("records")
    ]
    return "\n".join(
        [
            "## Does the verdict hold?",
            "",
            f"Each picture as it is and after {', '.join(processings)}:",
            "",
            markdown_table(["", *TITLES.values()], rows),
            "",
        ]
    )
