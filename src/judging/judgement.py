"""Predictions -> threshold, figures with intervals, slices: what a study says of a detector."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.command import InputError
from src.judging import metrics
from src.judging.curves import FloatArray, IntArray, Ranking, auroc
from src.judging.intervals import Interval, Statistic, bootstrap_intervals, rate_intervals
from src.judging.metrics import Confusion
from src.params import STRICT
from src.schema import FAKE, LABELS, REAL

CURVE_POINTS = 1000  # more make a plot slow and its file large, and the eye sees no difference
# The figures that stand for a detector.
HEADLINES = ("mcc", "ap", "auroc", "balanced_accuracy")


@dataclass(frozen=True, config=STRICT)
class EvaluateParams:
    """Section `evaluate` of params.yaml."""

    bootstrap_rounds: Annotated[int, Field(ge=20)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    min_groups: Annotated[int, Field(ge=1)]
    worst_images: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]


class Judgement(NamedTuple):
    """What the test images say of a detector at a frozen threshold."""

    confusion: Confusion
    figures: dict[str, tuple[float, float, float]]  # metric -> value, low end, high end
    methods: pd.DataFrame  # `slices` by method and family, and auroc, auroc_low, auroc_high
    pr: pd.DataFrame  # recall, precision, precision_low, precision_high: at most CURVE_POINTS rows


def check_predictions(predictions: pd.DataFrame) -> None:
    """Check that there is something to judge.

    Raises:
        InputError: validation or test lacks a class, or a score is not a probability.
    """
    wrong = ~predictions["score"].between(0, 1)
    if wrong.any():
        row = predictions[wrong].iloc[0]
        raise InputError(f"score {row['score']} of {row['image_id']} is not in [0, 1]")
    for split in ("val", "test"):
        labels = predictions.loc[predictions["split"] == split, "label"]
        for label, name in LABELS.items():
            if not (labels == label).any():
                raise InputError(
                    f"predictions hold no {name} image of split {split!r} ({len(labels)} images): "
                    f"evaluation needs both classes in 'val' and in 'test'"
                )


def choose_threshold(validation: pd.DataFrame) -> float:
    """Return the threshold with the highest MCC on `validation`; see `metrics.best_threshold`.

    Raises:
        InputError: all scores are equal.
    """
    try:
        return metrics.best_threshold(
            Ranking(validation["label"].to_numpy(), validation["score"].to_numpy()).curve()
        )
    except ValueError as error:
        raise InputError(f"no threshold can be chosen on validation: {error}") from error


def judge(test: pd.DataFrame, threshold: float, params: EvaluateParams) -> Judgement:
    """Return all figures of `test`, rows of predictions, whose scores >= `threshold` mean fake."""
    # In the order of the scores the bootstrap reads memory from front to back.
    test = test.sort_values(["score", "image_id"], ascending=[False, True], ignore_index=True)
    codes, methods = _subsets(test, ["method", "family"])
    recalls = _recall_levels(int((test["label"] == FAKE).sum()))
    statistic = _statistic(test, threshold, params.calibration_bins, codes, recalls)
    values = statistic(np.ones(len(test)))
    ends = bootstrap_intervals(
        statistic,
        test["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )
    methods = _with_rates(methods, test, codes, threshold, params).assign(
        **_columns("auroc", values["by_method"], ends["by_method"])
    )
    return Judgement(
        metrics.confusion(metrics.outcomes(test["label"].to_numpy(), _verdicts(test, threshold))),
        {name: (values[name], *ends[name]) for name in values if np.ndim(values[name]) == 0},
        # The fakes that get through come first: they are what one overall figure hides.
        methods.sort_values(["label", "correct", "method"], ignore_index=True),
        pd.DataFrame(
            {"recall": recalls} | _columns("precision", values["precisions"], ends["precisions"])
        ),
    )


def _recall_levels(fakes: int) -> FloatArray:
    return np.linspace(0, 1, min(fakes, CURVE_POINTS - 1) + 1)


def slices(
    test: pd.DataFrame, by: Sequence[str], threshold: float, params: EvaluateParams
) -> pd.DataFrame:
    """Return how often the verdict is right in each slice of `test` by the columns `by` and class.

    Columns: `by`, `label` (real or fake), `images`, `groups`, `few` (fewer than `min_groups`),
    `correct` (recall of fakes, specificity of reals), `correct_low`, `correct_high`.
    """
    codes, table = _subsets(test, by)
    return _with_rates(table, test, codes, threshold, params)


def _statistic(
    test: pd.DataFrame, threshold: float, bins: int, codes: IntArray, recalls: FloatArray
) -> Statistic:
    y_true, y_score = test["label"].to_numpy(), test["score"].to_numpy()
    outcomes = metrics.outcomes(y_true, _verdicts(test, threshold))
    residuals, score_bins = y_score - y_true, metrics.score_bins(y_score, bins)
    ranking = Ranking(y_true, y_score)

    def statistic(weights: FloatArray) -> dict[str, Any]:
        curve = ranking.curve(weights)
        counts = metrics.confusion(outcomes, weights)
        return {
            "mcc": metrics.mcc(counts),
            "ap": metrics.average_precision(curve),
            "auroc": auroc(curve),
            "balanced_accuracy": metrics.balanced_accuracy(counts),
            "precision": metrics.precision(counts),
            "recall": metrics.recall(counts),
            "specificity": metrics.specificity(counts),
            "f1": metrics.f1(counts),
            "recall_at_1pct_fpr": metrics.recall_at_fpr(curve, 0.01),
            "equal_error_rate": metrics.equal_error_rate(curve),
            "calibration_error": metrics.calibration_error(residuals, score_bins, weights),
            "brier_error": metrics.brier_error(residuals, weights),
            "by_method": metrics.auroc_by(curve, ranking.step, y_true, codes, weights),
            "precisions": metrics.precision_at(curve, recalls),
        }

    return statistic


def _subsets(test: pd.DataFrame, by: Sequence[str]) -> tuple[IntArray, pd.DataFrame]:
    # A method may hold both classes (cycle_gan): its fakes and its reals are two subsets.
    keys = [*by, "label"]
    grouped = test.groupby(keys, sort=True, observed=True)
    table = grouped.agg(images=("label", "size"), groups=("group", "nunique")).reset_index()
    codes: IntArray = grouped.ngroup().to_numpy().astype(np.int64)
    return codes, table.assign(label=table["label"].map(LABELS))


def _with_rates(
    table: pd.DataFrame,
    test: pd.DataFrame,
    codes: IntArray,
    threshold: float,
    params: EvaluateParams,
) -> pd.DataFrame:
    correct = _verdicts(test, threshold) == test["label"].to_numpy()
    ends = rate_intervals(correct, codes, test["group"].to_numpy(), params.confidence)
    rate = np.bincount(codes, correct) / np.bincount(codes)
    few = table["groups"] < params.min_groups
    return table.assign(few=few, **_columns("correct", rate, ends))


def _columns(name: str, value: Any, ends: Interval) -> dict[str, Any]:
    return {name: value, f"{name}_low": ends.low, f"{name}_high": ends.high}


def _verdicts(test: pd.DataFrame, threshold: float) -> IntArray:
    verdicts: IntArray = np.where(test["score"].to_numpy() >= threshold, FAKE, REAL)
    return verdicts
