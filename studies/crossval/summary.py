"""One evaluation per fold -> mean, spread and interval of each metric, and the folds' PR curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from scipy import stats

from src.core.arrays import FloatArray
from src.core.cli import InputError, parse_paths, run
from src.core.files import read_json
from src.core.params import STRICT, load_params
from src.evaluation.intervals import Interval
from src.evaluation.results import EvaluateParams
from src.reporting.markdown import interval, markdown_table, with_interval
from src.reporting.titles import HEADLINES, TITLES
from studies.crossval.figure import draw
from studies.shared.results import write_results

ARGUMENTS = "judged results"
PARAMS = Path(__file__).with_name("params.yaml")
LOWEST = {"mcc": -1.0}  # the others lie in [0, 1]


def _at_least_two_different(folds: tuple[int, ...]) -> tuple[int, ...]:
    if len(folds) < 2 or len(set(folds)) < len(folds):
        raise ValueError("name two or more different folds")
    return folds


@dataclass(frozen=True, config=STRICT)
class CrossvalParams:
    """Section `crossval` of studies/crossval/params.yaml."""

    folds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_at_least_two_different)
    ]


def corrected_interval(values: FloatArray, test_over_train: float, confidence: float) -> Interval:
    """Return the interval of the mean of `values`, one per fold, each of its own training run.

    Folds share most of their training images, so that they differ less than independent runs
    would: the variance of the mean is (1/k + test/train) s^2, where s^2 is theirs, and not s^2/k.

    Source: Nadeau and Bengio 2003, Machine Learning 52, the corrected resampled t-test; for folds
    as in Bouckaert and Frank 2004 (PAKDD).
    """
    folds = len(values)
    spread = np.std(values, ddof=1) * np.sqrt(1 / folds + test_over_train)
    half = stats.t.ppf((1 + confidence) / 2, folds - 1) * spread
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


def folds_table(evaluations: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per fold: test images, threshold, and the headlines with their intervals."""
    rows = []
    for fold, document in evaluations.items():
        metrics = {
            name + end: document["test"][name + end]
            for name in HEADLINES
            for end in ("", "_low", "_high")
        }
        images = sum(document["confusion"].values())
        rows.append({"fold": fold, "images": images, "threshold": document["threshold"]} | metrics)
    return pd.DataFrame(rows)


def summary(folds: pd.DataFrame, test_over_train: float, confidence: float) -> dict[str, Any]:
    """Return mean, standard deviation over the folds, and interval of the mean, by metric."""
    document: dict[str, Any] = {"folds": len(folds), "test_over_train": test_over_train}
    for name in HEADLINES:
        values = folds[name].to_numpy()
        low, high = corrected_interval(values, test_over_train, confidence)
        document[name] = float(values.mean())
        document[f"{name}_sd"] = float(values.std(ddof=1))
        document[f"{name}_low"] = max(low, LOWEST.get(name, 0.0))
        document[f"{name}_high"] = min(high, 1.0)
    return document


def methods_table(evaluations: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per method and class: the share called right over the folds that test it."""
    shares = pd.DataFrame(
        [
            {"method": method, "label": label, "correct": share}
            for document in evaluations.values()
            for label, kind in (("fake", "recall"), ("real", "specificity"))
            for method, share in document[kind].items()
        ]
    )
    table = shares.groupby(["label", "method"])["correct"].agg(
        folds="size", mean="mean", sd="std", lowest="min", highest="max"
    )
    return table.reset_index().sort_values(["label", "mean", "method"], ignore_index=True)


def page(folds: pd.DataFrame, document: Mapping[str, Any], confidence: float) -> str:
    """Return what `make crossval` ends with, as Markdown."""
    header = ["fold", "test images", *(TITLES[name] for name in HEADLINES)]
    rows = [
        [
            f"{row.fold}",
            f"{row.images}",
            *(
                with_interval(*(float(getattr(row, name + end)) for end in ("", "_low", "_high")))
                for name in HEADLINES
            ),
        ]
        for row in folds.itertuples()
    ]
    means = [f"{document[name]:.3f} ± {document[f'{name}_sd']:.3f}" for name in HEADLINES]
    ends = [interval(document[f"{name}_low"], document[f"{name}_high"]) for name in HEADLINES]
    rows += [["mean ± sd", f"{folds['images'].sum()}", *means], ["interval", "", *ends]]
    return "\n".join(
        [
            f"# Cross-validation over {len(folds)} folds",
            "",
            markdown_table(header, rows),
            "",
            "In brackets: bootstrap over the groups of a fold's test images. sd: sample standard "
            "deviation over the folds.",
            f"Interval: of the mean, {confidence:.0%}, corrected for training sets that overlap "
            "(Nadeau and Bengio 2003).",
            "",
        ]
    )


def read_fold(judged: Path, fold: int) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    """Return evaluation, description of the split and PR curve of a fold.

    Raises:
        InputError: the fold has not been run.
    """
    folder = judged / str(fold)
    if not (folder / "evaluate.json").is_file():
        raise InputError(f"{folder}: fold {fold} has not been run; run make crossval")
    curve = pd.read_csv(folder / "evaluate" / "pr.csv").assign(fold=fold)
    return read_json(folder / "evaluate.json"), read_json(folder / "split.json"), curve


def main(argv: Sequence[str] | None = None) -> None:
    """Read the folds, sum up, write."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(CrossvalParams, "crossval", PARAMS)
    confidence = load_params(EvaluateParams, "evaluate").confidence
    read = {fold: read_fold(args.judged, fold) for fold in params.folds}
    evaluations = {fold: evaluation for fold, (evaluation, _, _) in read.items()}
    shares = [split["share"] for _, split, _ in read.values()]
    curves = pd.concat([curve for _, _, curve in read.values()], ignore_index=True)
    folds = folds_table(evaluations)
    ratio = float(np.mean([share["test"] / share["train"] for share in shares]))
    document = summary(folds, ratio, confidence)
    tables = {
        "folds": folds,
        "methods": methods_table(evaluations),
        "pr": curves[["fold", "recall", "precision"]],
    }
    text = page(folds, document, confidence)
    pictures = {"overview": draw(folds, curves, document)}
    write_results(args.results, text, tables, pictures, {"crossval": document})


if __name__ == "__main__":
    run(main)
