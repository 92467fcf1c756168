"""Predictions and calibration -> metrics/evaluate.json, tables and pictures in plots/."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.core.cli import run
from src.core.files import replacing, write_json
from src.core.params import load_params
from src.core.tables import HOLDOUT, read_table
from src.dataset.columns import METADATA
from src.evaluation.calibration import Calibration, load_calibration
from src.evaluation.errors import error_columns
from src.evaluation.pictures import forest, overview
from src.evaluation.plot_tables import evaluation_tables, worst_errors
from src.evaluation.results import (
    HEADLINES,
    PROBABILITIES,
    EvaluateParams,
    Judgement,
    check_predictions,
    judge,
)
from src.evaluation.slices import MEASURES, count_slices, slice_table, with_parts
from src.inference.predictions import PREDICTIONS


def evaluate(
    predictions: pd.DataFrame,
    measures: pd.DataFrame,
    calibration: Calibration,
    params: EvaluateParams,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return the metrics document and the tables of plots/evaluate by name.

    Every figure comes from the rows of split `test`; those of `holdout`, if any, are judged apart.
    What validation had to decide stands in `calibration`; `measures` are columns of metadata.

    Raises:
        InputError: test lacks a class, a logit is no number, or an image has no measures.
    """
    check_predictions(predictions)
    # Names of groups sort and compare slowly: their numbers, in the order of the names, serve all.
    numbers, names = pd.factorize(predictions["group"], sort=True)
    judged = with_parts(predictions.assign(group=numbers), measures).assign(
        score=calibration.probability(predictions["logit"].to_numpy())
    )
    test, holdout = (judged[judged["split"] == split] for split in ("test", HOLDOUT))
    judgement = judge(test, calibration.threshold, params)
    tables = evaluation_tables(test, judgement, params.calibration_bins, params.confidence)
    tables["slices"] = slice_table(test, calibration.threshold, params)
    errors = worst_errors(test, calibration.threshold, params.worst_images)
    tables["errors"] = errors.assign(group=names[errors["group"]])[list(error_columns(PREDICTIONS))]
    document = metrics_document(judgement, calibration.threshold)
    document["ood_share"] = float((test["distance"] > calibration.ood_distance).mean())
    document["slices"] = count_slices(tables["slices"], 1 - params.confidence)
    if len(holdout):
        # A class that nothing is held out of is that of test.
        others = test[~test["label"].isin(holdout["label"])]
        apart = judge(pd.concat([others, holdout]), calibration.threshold, params)
        held_out = apart.methods["method"].isin(holdout["method"])
        document["holdout"] = _figures(apart) | _rates(apart.methods[held_out])
    return document, tables


def metrics_document(judgement: Judgement, threshold: float) -> dict[str, Any]:
    """Return what `dvc metrics` and `dvc exp show` show: short names, headlines with intervals."""
    return {
        "threshold": threshold,
        "test": _figures(judgement),
        "confusion": {name: int(count) for name, count in judgement.confusion._asdict().items()},
        **_rates(judgement.methods),
    }


def _figures(judgement: Judgement) -> dict[str, float]:
    figures = {name: value for name, (value, _, _) in judgement.figures.items()}
    for name in (*HEADLINES, *PROBABILITIES, *(f"{name}_before" for name in PROBABILITIES)):
        _, figures[f"{name}_low"], figures[f"{name}_high"] = judgement.figures[name]
    return figures


def _rates(methods: pd.DataFrame) -> dict[str, Any]:
    correct = methods.set_index("method")["correct"]
    is_fake = (methods["label"] == "fake").to_numpy()
    return {"recall": correct[is_fake].to_dict(), "specificity": correct[~is_fake].to_dict()}


def write_plots(tables: Mapping[str, pd.DataFrame], directory: Path) -> None:
    """Write every table as CSV, and two pictures of what they show, to `directory`."""
    directory.mkdir()
    for name, table in tables.items():
        table.to_csv(
            directory / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n"
        )
    for name, figure in (("overview", overview(tables)), ("slices", forest(tables["slices"]))):
        # Without its software tag, which names a version, equal plots are equal files.
        figure.savefig(directory / f"{name}.png", metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> None:
    """Read, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in (
        "predictions_csv",
        "metadata_csv",
        "calibration_json",
        "metrics_json",
        "plots",
    ):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(EvaluateParams, "evaluate")
    predictions = read_table(args.predictions_csv, PREDICTIONS)
    measures = read_table(args.metadata_csv, METADATA, ["image_id", *MEASURES])
    calibration = load_calibration(args.calibration_json)
    document, tables = evaluate(predictions, measures, calibration, params)
    with replacing(args.plots) as plots:
        write_plots(tables, plots)
    write_json(document, args.metrics_json)


if __name__ == "__main__":
    run(main)
