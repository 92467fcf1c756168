"""Predictions and a threshold -> metrics with intervals, by method and slice."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from src.core.arrays import FloatArray, IntArray
from src.core.params import STRICT
from src.core.tables import FAKE, LABELS, REAL, require_both_classes
from src.evaluation import metrics
from src.evaluation.calibration import check_logits
from src.evaluation.calibration_error import debiased_root
from src.evaluation.intervals import (
    Interval,
    Rounds,
    Statistic,
    bootstrap,
    interval,
    rate_intervals,
)
from src.evaluation.ranking import Confusion, Ranking, auroc, mcc

CURVE_POINTS = 1000  # more make a plot slow and its file large, and the eye sees no difference
# Metrics whose statistic is a mean square with a bias: see `debiased_root`.
SQUARES = ("calibration_error", "calibration_error_before")
PROBABILITIES = ("calibration_error", "brier_error")  # each also with `_before` calibration


@dataclass(frozen=True, config=STRICT)
class EvaluateParams:
    """Section `evaluate` of params.yaml."""

    bootstrap_rounds: Rounds
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    min_groups: Annotated[int, Field(ge=1, le=10**9)]
    worst_images: Annotated[int, Field(ge=1, le=1000)]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


class Results(NamedTuple):
    """What the test images say of a detector at a frozen threshold."""

    confusion: Confusion
    metrics: dict[str, tuple[float, float, float]]  # metric -> value, low end, high end
    methods: pd.DataFrame  # `slices` by method and family, and auroc, auroc_low, auroc_high
    pr: pd.DataFrame  # recall, precision, precision_low, precision_high: at most CURVE_POINTS rows


def check_predictions(predictions: pd.DataFrame) -> None:
    """Check that there is something to judge.

    Raises:
        InputError: test lacks a class, or a logit is no number.
    """
    check_logits(predictions)
    test = predictions["split"] == "test"
    require_both_classes(predictions.loc[test, "label"], "split 'test' of the predictions")


def compute_results(test: pd.DataFrame, threshold: float, params: EvaluateParams) -> Results:
    """Return all metrics of `test`, whose scores >= `threshold` mean fake.

    `test` holds rows of predictions and `score`, P(fake) after calibration.
    """
    # In the order of the scores the bootstrap reads memory from front to back.
    test = test.sort_values(["logit", "image_id"], ascending=[False, True], ignore_index=True)
    codes, methods = _subsets(test, ["method", "family"])
    recalls = _recall_levels(int((test["label"] == FAKE).sum()))
    statistic = _statistic(test, threshold, params.calibration_bins, codes, recalls)
    groups = test["group"].to_numpy()
    rounds = bootstrap(statistic, groups, params.bootstrap_rounds, params.seed)
    estimates = _estimates(statistic(np.ones(len(test))), rounds, groups, params.confidence)
    methods = _with_rates(methods, test, codes, threshold, params).assign(
        **_columns("auroc", *estimates.pop("by_method"))
    )
    pr = pd.DataFrame({"recall": recalls, **_columns("precision", *estimates.pop("precisions"))})
    return Results(
        metrics.confusion(metrics.outcomes(test["label"].to_numpy(), _verdicts(test, threshold))),
        {name: (value, *ends) for name, (value, ends) in estimates.items()},
        # The fakes that get through come first: they are what one overall number hides.
        methods.sort_values(["label", "correct", "method"], ignore_index=True),
        pr,
    )


def _estimates(
    values: Mapping[str, Any],
    rounds: Mapping[str, FloatArray],
    groups: NDArray[Any],
    confidence: float,
) -> dict[str, tuple[Any, Interval]]:
    count = len(np.unique(groups))
    estimates = {
        name: (value, interval(rounds[name], confidence, count)) for name, value in values.items()
    }
    for name in SQUARES:
        value, *ends = debiased_root(values[name], rounds[name], confidence, count)
        estimates[name] = value, Interval(*ends)
    return estimates


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
    ranking = Ranking(y_true, y_score)
    before = expit(test["logit"].to_numpy())
    residuals, residuals_before = y_score - y_true, before - y_true
    # Calibration keeps the order, so both sets of bins follow each other.
    starts, starts_before = (
        metrics.bin_starts(metrics.score_bins(scores, bins)) for scores in (y_score, before)
    )

    def statistic(weights: FloatArray) -> dict[str, Any]:
        curve = ranking.curve(weights)
        counts = metrics.confusion(outcomes, weights)
        return {
            "mcc": mcc(counts),
            "ap": metrics.average_precision(curve),
            "auroc": auroc(curve),
            "balanced_accuracy": metrics.balanced_accuracy(counts),
            "precision": metrics.precision(counts),
            "recall": metrics.recall(counts),
            "specificity": metrics.specificity(counts),
            "f1": metrics.f1(counts),
            "recall_at_1pct_fpr": metrics.recall_at_fpr(curve, 0.01),
            "equal_error_rate": metrics.equal_error_rate(curve),
            "calibration_error": metrics.calibration_square(residuals, starts, weights),
            "calibration_error_before": metrics.calibration_square(
                residuals_before, starts_before, weights
            ),
            "brier_error": metrics.brier_error(residuals, weights),
            "brier_error_before": metrics.brier_error(residuals_before, weights),
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
