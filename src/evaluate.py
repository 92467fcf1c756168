"""Stage `evaluate`: predictions and calibration -> metrics, and tables and pictures of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from src.core.cli import parse_paths, run
from src.core.files import replacing, write_json
from src.core.params import load_params
from src.core.tables import HOLDOUT, read_table
from src.dataset.columns import METADATA
from src.evaluation.calibration import Calibration, load_calibration
from src.evaluation.errors import error_columns
from src.evaluation.pictures import forest, overview
from src.evaluation.plot_tables import evaluation_tables, worst_errors
from src.evaluation.results import (
    PROBABILITIES,
    EvaluateParams,
    Results,
    check_predictions,
    compute_results,
)
from src.evaluation.slices import MEASURES, count_slices, size_rates, slice_table, with_parts
from src.inference.predictions import PREDICTIONS
from src.reporting.drawing import write_plots
from src.reporting.titles import HEADLINES

ARGUMENTS = "predictions_csv metadata_csv calibration_json metrics_json headline_json plots"
HEADLINE_RATES = ("balanced_accuracy", "recall", "specificity", "recall_at_1pct_fpr")


def evaluate(
    predictions: pd.DataFrame,
    measures: pd.DataFrame,
    calibration: Calibration,
    params: EvaluateParams,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return the metrics document and the tables of plots/evaluate by name.

    Every metric comes from the rows of split `test`; those of `holdout`, if any, are judged apart.
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
    results = compute_results(test, calibration.threshold, params)
    tables = evaluation_tables(test, results, params.calibration_bins, params.confidence)
    tables["slices"] = slice_table(test, calibration.threshold, params)
    errors = worst_errors(test, calibration.threshold, params.worst_images)
    tables["errors"] = errors.assign(group=names[errors["group"]])[list(error_columns(PREDICTIONS))]
    document = metrics_document(results, calibration.threshold)
    document |= _shares(test, calibration)
    document["sizes"] = size_rates(test, calibration.threshold, params)
    document["slices"] = count_slices(tables["slices"], 1 - params.confidence)
    if len(holdout):
        # A class that nothing is held out of is that of test.
        others = test[~test["label"].isin(holdout["label"])]
        apart = compute_results(pd.concat([others, holdout]), calibration.threshold, params)
        held_out = apart.methods["method"].isin(holdout["method"])
        document["holdout"] = _metrics(apart) | _rates(apart.methods[held_out])
    return document, tables


def _shares(test: pd.DataFrame, calibration: Calibration) -> dict[str, Any]:
    labels, scores = test["label"].to_numpy(), test["score"].to_numpy()
    share, right = calibration.selective(labels, scores, np.ones(len(test)))
    return {
        "ood_share": float((test["distance"] > calibration.ood_distance).mean()),
        "verdicts": {"judged": share, "judged_right": right},
    }


def metrics_document(results: Results, threshold: float) -> dict[str, Any]:
    """Return metrics/evaluate.json: the metrics, and how often each method is called right."""
    return {
        "threshold": threshold,
        "test": _metrics(results),
        "confusion": {name: int(count) for name, count in results.confusion._asdict().items()},
        **_rates(results.methods),
    }


def headline(document: Mapping[str, Any]) -> dict[str, float]:
    """Return what `dvc exp show` compares runs by: few metrics, the most telling first."""
    test = document["test"]
    with_ends = [name + end for name in ("mcc", "auroc", "ap") for end in ("", "_low", "_high")]
    names = (*with_ends, *HEADLINE_RATES, *PROBABILITIES)
    found = {name: test[name] for name in names} | {
        "lowest_recall": min(document["recall"].values()),  # of the fakes' methods
        "ood_share": document["ood_share"],
        "threshold": document["threshold"],
    }
    if "holdout" in document:
        found |= {f"holdout_{name}": document["holdout"][name] for name in ("mcc", "auroc")}
    return found


def _metrics(results: Results) -> dict[str, float]:
    metrics = {name: value for name, (value, _, _) in results.metrics.items()}
    for name in (*HEADLINES, *PROBABILITIES, *(f"{name}_before" for name in PROBABILITIES)):
        _, metrics[f"{name}_low"], metrics[f"{name}_high"] = results.metrics[name]
    return metrics


def _rates(methods: pd.DataFrame) -> dict[str, Any]:
    correct = methods.set_index("method")["correct"]
    is_fake = (methods["label"] == "fake").to_numpy()
    return {"recall": correct[is_fake].to_dict(), "specificity": correct[~is_fake].to_dict()}


def main(argv: Sequence[str] | None = None) -> None:
    """Read, judge, write."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(EvaluateParams, "evaluate")
    predictions = read_table(args.predictions_csv, PREDICTIONS)
    measures = read_table(args.metadata_csv, METADATA, ["image_id", *MEASURES])
    calibration = load_calibration(args.calibration_json)
    document, tables = evaluate(predictions, measures, calibration, params)
    pictures = {"overview": overview(tables), "slices": forest(tables["slices"])}
    with replacing(args.plots) as plots:
        write_plots(plots, tables, pictures)
    write_json(document, args.metrics_json)
    write_json(headline(document), args.headline_json, sort_keys=False)


if __name__ == "__main__":
    run(main)
