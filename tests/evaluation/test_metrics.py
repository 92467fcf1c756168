from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis.extra import numpy as arrays

from src.core.arrays import FloatArray, IntArray
from src.evaluation import metrics, ranking
from src.evaluation.ranking import Curve, Ranking

# Real images at .1 .4 .4 .6, fakes at .35 .4 .7 .9: few enough to work every figure by hand.
Y_TRUE = np.array([0, 0, 0, 0, 1, 1, 1, 1])
Y_SCORE = np.array([0.1, 0.4, 0.4, 0.6, 0.35, 0.4, 0.7, 0.9])


def curve_of(y_true: Any, y_score: Any, weights: FloatArray | None = None) -> Curve:
    return Ranking(np.asarray(y_true), np.asarray(y_score, dtype=np.float64)).curve(weights)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[IntArray, FloatArray, FloatArray]:
    """Labels of both classes, scores with many ties, whole weights (some 0)."""
    n = draw(st.integers(2, 40))
    labels = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    scores = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 12))) / 12
    weights = draw(arrays.arrays(np.int64, n, elements=st.integers(0, 3))).astype(np.float64)
    weights[:2] = np.maximum(weights[:2], 1)
    return labels, scores, weights


def test_figures_of_the_worked_example() -> None:
    curve = curve_of(Y_TRUE, Y_SCORE)

    # Pairs in which the fake wins: .35 beats 1, .4 beats 1 and ties 2, .7 and .9 beat all 4.
    assert ranking.auroc(curve) == pytest.approx((1 + 2 + 4 + 4) / 16)
    # Fakes at ranks 1 and 2, then one among the tie that ends at rank 6, then one at rank 7.
    assert metrics.average_precision(curve) == pytest.approx((1 + 1 + 3 / 6 + 4 / 7) / 4)
    assert metrics.recall_at_fpr(curve, 0.01) == 0.5
    assert metrics.recall_at_fpr(curve, 0.25) == 0.5
    assert metrics.recall_at_fpr(curve, 0.75) == 1
    # Between .6 (1/4 false positives, 2/4 missed) and .4 (3/4, 1/4): they cross a third of the way.
    assert metrics.equal_error_rate(curve) == pytest.approx(1 / 4 + 1 / 3 * 2 / 4)


def test_counts_of_the_worked_example() -> None:
    counts = metrics.confusion(metrics.outcomes(Y_TRUE, (Y_SCORE >= 0.5).astype(np.int64)))

    assert (counts.true_positives, counts.false_positives) == (2, 1)
    assert (counts.false_negatives, counts.true_negatives) == (2, 3)
    assert metrics.recall(counts) == 1 / 2
    assert metrics.specificity(counts) == 3 / 4
    assert metrics.balanced_accuracy(counts) == 5 / 8
    assert metrics.precision(counts) == pytest.approx(2 / 3)
    assert metrics.f1(counts) == pytest.approx(4 / 7)
    assert ranking.mcc(counts) == pytest.approx((2 * 3 - 1 * 2) / np.sqrt(3 * 5 * 4 * 4))


def test_precision_falls_where_recall_is_bought() -> None:
    found = metrics.precision_at(curve_of(Y_TRUE, Y_SCORE), np.array([0, 0.25, 0.5, 0.75, 1]))

    assert found == pytest.approx([1, 1, 1, 3 / 6, 4 / 7])


def test_probability_errors_of_a_worked_example() -> None:
    y_true, y_score = np.array([0, 1, 1]), np.array([0.1, 0.3, 1.0])
    residuals, weights = y_score - y_true, np.ones(3)

    assert metrics.brier_error(residuals, weights) == pytest.approx((0.01 + 0.49) / 3)
    # Two bins: the first holds scores .1 and .3 with half fakes, the second is exact.
    bins = metrics.score_bins(y_score, 2)
    assert bins.tolist() == [0, 0, 1]
    starts = metrics.bin_starts(bins)
    assert starts.tolist() == [0, 2]
    # On average .2 against 1/2, two images of three.
    assert metrics.calibration_square(residuals, starts, weights) == pytest.approx(0.3**2 * 2 / 3)
    # Images that a round did not draw count for nothing.
    undrawn = metrics.calibration_square(residuals, starts, np.array([1.0, 0, 0]))
    assert undrawn == pytest.approx(0.1**2)


@given(predictions())
def test_curves_agree_with_scikit_learn(data: tuple[IntArray, FloatArray, FloatArray]) -> None:
    y_true, y_score, weights = data
    curve = curve_of(y_true, y_score, weights)

    auroc = sklearn.metrics.roc_auc_score(y_true, y_score, sample_weight=weights)
    ap = sklearn.metrics.average_precision_score(y_true, y_score, sample_weight=weights)
    assert ranking.auroc(curve) == pytest.approx(auroc)
    assert metrics.average_precision(curve) == pytest.approx(ap)


@given(predictions(), st.integers(0, 12))
def test_counts_agree_with_scikit_learn(
    data: tuple[IntArray, FloatArray, FloatArray], cut: int
) -> None:
    y_true, y_score, weights = data
    y_pred = (y_score >= cut / 12).astype(np.int64)
    counts = metrics.confusion(metrics.outcomes(y_true, y_pred), weights)

    options: dict[str, Any] = {"sample_weight": weights}
    mcc = sklearn.metrics.matthews_corrcoef(y_true, y_pred, **options)
    assert ranking.mcc(counts) == pytest.approx(mcc, abs=1e-12)
    for ours, theirs in (
        (metrics.precision, sklearn.metrics.precision_score),
        (metrics.recall, sklearn.metrics.recall_score),
        (metrics.f1, sklearn.metrics.f1_score),
    ):
        assert ours(counts) == pytest.approx(theirs(y_true, y_pred, zero_division=0, **options))


@given(predictions())
def test_subsets_agree_with_scikit_learn(data: tuple[IntArray, FloatArray, FloatArray]) -> None:
    y_true, y_score, weights = data
    codes = 2 * y_true + np.arange(len(y_true)) % 2
    ranking = Ranking(y_true, y_score)
    found = metrics.auroc_by(ranking.curve(weights), ranking.step, y_true, codes, weights)

    for code in np.unique(codes[weights > 0]):
        rows = (codes == code) | (y_true != code // 2)
        expected = sklearn.metrics.roc_auc_score(
            y_true[rows], y_score[rows], sample_weight=weights[rows]
        )
        assert found[code] == pytest.approx(expected)


@given(predictions())
def test_weights_are_repetitions(data: tuple[IntArray, FloatArray, FloatArray]) -> None:
    y_true, y_score, weights = data
    times = weights.astype(np.int64)
    weighted = curve_of(y_true, y_score, weights)
    repeated = curve_of(y_true.repeat(times), y_score.repeat(times))

    for metric in (ranking.auroc, metrics.average_precision, metrics.equal_error_rate):
        assert metric(weighted) == pytest.approx(metric(repeated))
    assert metrics.recall_at_fpr(weighted, 0.2) == metrics.recall_at_fpr(repeated, 0.2)


@given(predictions())
def test_rising_maps_keep_what_depends_on_order(
    data: tuple[IntArray, FloatArray, FloatArray],
) -> None:
    y_true, y_score, _ = data
    before, after = curve_of(y_true, y_score), curve_of(y_true, np.exp(3 * y_score) - 7)

    for metric in (ranking.auroc, metrics.average_precision, metrics.equal_error_rate):
        assert metric(before) == metric(after)


@given(predictions())
def test_swapped_classes_mirror_the_figures(
    data: tuple[IntArray, FloatArray, FloatArray],
) -> None:
    y_true, y_score, weights = data
    there, back = curve_of(y_true, y_score, weights), curve_of(1 - y_true, -y_score, weights)

    assert metrics.equal_error_rate(there) == pytest.approx(metrics.equal_error_rate(back))
    assert ranking.auroc(there) == pytest.approx(ranking.auroc(back))
    assert ranking.auroc(curve_of(y_true, -y_score, weights)) == pytest.approx(
        1 - ranking.auroc(there)
    )


@given(predictions())
def test_the_order_of_the_rows_does_not_matter(
    data: tuple[IntArray, FloatArray, FloatArray],
) -> None:
    y_true, y_score, weights = data
    there = curve_of(y_true, y_score, weights)
    back = curve_of(y_true[::-1], y_score[::-1], weights[::-1])

    for one, other in zip(there, back, strict=True):
        np.testing.assert_array_equal(one, other)


def test_figures_of_one_class_are_not_numbers() -> None:
    for labels in ([0, 0], [1, 1]):
        curve = curve_of(labels, [0.2, 0.6])
        assert np.isnan(ranking.auroc(curve))
        assert np.isnan(metrics.equal_error_rate(curve))
        assert np.isnan(metrics.recall_at_fpr(curve, 0.01))
        counts = metrics.confusion(metrics.outcomes(np.array(labels), np.array([0, 1])))
        assert np.isnan(metrics.balanced_accuracy(counts))
        assert ranking.mcc(counts) == 0
