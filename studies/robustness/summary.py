"""Logits of every condition -> AUROC and MCC at the frozen threshold, along every corruption."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from src.core.arrays import FloatArray
from src.core.cli import parse_paths, run
from src.core.params import load_params
from src.core.tables import read_table
from src.evaluation.calibration import Calibration, load_calibration
from src.evaluation.intervals import bootstrap_intervals
from src.evaluation.results import EvaluateParams
from src.reporting.markdown import markdown_table, with_interval
from src.reporting.titles import TITLES
from studies.robustness.conditions import (
    CLEAN,
    PARAMS,
    UNTOUCHED,
    Condition,
    RobustnessParams,
    conditions,
    logits_schema,
)
from studies.robustness.figure import draw
from studies.robustness.flips import TITLES as FLIPS
from studies.robustness.flips import flips, flips_text
from studies.shared.paired import Scored
from studies.shared.results import write_results

ARGUMENTS = "logits_csv calibration_json results"
METRICS = ("auroc", "mcc", "recall", "specificity")
CURVES = ("auroc", "mcc")


def curves(
    logits: pd.DataFrame,
    wanted: Sequence[Condition],
    calibration: Calibration,
    params: EvaluateParams,
) -> pd.DataFrame:
    """Return one row per condition, the untouched images first and at the start of their curves.

    Columns: corruption, level, `METRICS` with low and high ends, and `CURVES` of the untouched
    images beside them (auroc_clean, mcc_clean).
    """
    columns = [CLEAN, *(condition.column for condition in wanted)]
    y_true = logits["label"].to_numpy()
    scores = calibration.probability(logits[columns].to_numpy())
    scored = [Scored(y_true, column, calibration.threshold) for column in scores.T]

    def statistic(weights: FloatArray | None) -> dict[str, FloatArray]:
        metrics = [each.metrics(weights) for each in scored]
        return {name: np.array([each[name] for each in metrics]) for name in METRICS}

    values = statistic(None)
    ends = bootstrap_intervals(
        statistic,
        logits["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )
    rows = [(CLEAN, np.nan), *wanted]
    table = pd.DataFrame(rows, columns=["corruption", "level"])
    for name in METRICS:
        table[name], table[f"{name}_low"], table[f"{name}_high"] = values[name], *ends[name]
    for name in CURVES:
        table[f"{name}_clean"] = values[name][0]
    return _with_starts(table)


def _with_starts(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with the clean row once more on every curve that it belongs to."""
    parts = [table.iloc[:1]]
    for corruption, curve in table.iloc[1:].groupby("corruption", sort=False):
        if corruption in UNTOUCHED:
            start = table.iloc[:1].assign(corruption=corruption, level=UNTOUCHED[str(corruption)])
            rest = curve[curve["level"] != UNTOUCHED[str(corruption)]]
            curve = pd.concat([start, rest]).sort_values("level")
        parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return the clean metrics, and mean and worst of each curve, by corruption."""
    clean = table[table["corruption"] == CLEAN].iloc[0]
    document: dict[str, Any] = {CLEAN: {name: float(clean[name]) for name in CURVES}}
    for corruption, curve in table[table["corruption"] != CLEAN].groupby("corruption"):
        touched = curve[curve["level"] != UNTOUCHED.get(str(corruption))]
        document[str(corruption)] = {
            f"{name}_{kind}": float(getattr(touched[name], reduce)())
            for name in CURVES
            for kind, reduce in (("mean", "mean"), ("worst", "min"))
        }
    return document


def page(table: pd.DataFrame, images: int, groups: int) -> str:
    """Return what `make robustness` ends with, as Markdown."""
    rows = [
        [
            row["corruption"],
            "" if row["corruption"] == CLEAN else f"{row['level']:g}",
            *(with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in CURVES),
            f"{row['recall']:.3f}",
            f"{row['specificity']:.3f}",
        ]
        for row in table.to_dict("records")
        if row["level"] != UNTOUCHED.get(row["corruption"])
    ]
    return "\n".join(
        [
            f"# Robustness, on {images} test images of {groups} groups",
            "",
            markdown_table(["corruption", "level", *(TITLES[name] for name in METRICS)], rows),
            "",
            "MCC, recall and specificity at the threshold that was frozen on untouched validation "
            "images. A low recall says that fakes pass, a low specificity that reals are accused.",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the logits, judge every condition, write."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(RobustnessParams, "robustness", PARAMS)
    evaluate = load_params(EvaluateParams, "evaluate")
    logits = read_table(args.logits_csv, logits_schema(params))
    calibration = load_calibration(args.calibration_json)
    table = curves(logits, conditions(params), calibration, evaluate)
    text = page(table, len(logits), logits["group"].nunique())
    metrics = {"robustness": summary(table)}
    tables = {"curves": table}
    if params.processings:
        tables["flips"] = flips(logits, params.processings, calibration, evaluate)
        text += "\n" + flips_text(tables["flips"], params.processings)
        of_all = tables["flips"].iloc[0]
        metrics["robustness"]["flips"] = {name: float(of_all[name]) for name in FLIPS}
    write_results(args.results, text, tables, {"curves": draw(table)}, metrics)


if __name__ == "__main__":
    run(main)
