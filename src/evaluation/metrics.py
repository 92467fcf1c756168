"""Labels and scores -> metrics; FAKE (1) is the positive class.

Two views of the same predictions: a `Curve` (every threshold; AUROC, AP, ...) and a `Confusion`
(one threshold; MCC, recall, ...). Both take a weight per image, and a bootstrap round is nothing
but other weights (src/evaluation/intervals.py): the scores are sorted once, and a round costs a few
cumulative sums.
"""

from bisect import bisect_left

import numpy as np

from src.core.arrays import FloatArray, IntArray
from src.evaluation.ranking import Confusion, Curve, Number, dot, ratio


def average_precision(curve: Curve) -> float:
    """Return the mean precision over the fakes, in [0, 1]: sum of (R_k - R_k-1) P_k.

    NaN if there is no fake.
    """
    precisions = curve.true_positives + curve.false_positives
    # Steps that nothing has reached yet (weight 0) add no recall, so any precision will do.
    np.maximum(precisions, np.finfo(np.float64).tiny, out=precisions)
    np.divide(curve.true_positives, precisions, out=precisions)
    return float(ratio(dot(curve.fakes, precisions), curve.true_positives[-1]))


def precision_at(curve: Curve, recalls: FloatArray) -> FloatArray:
    """Return the precision of the first threshold to reach each of `recalls`, same shape.

    NaN if there is no fake.
    """
    positives = curve.true_positives
    # The tolerance keeps a recall of k/n from missing k fakes by the last bit of a product.
    # A recall of 0 is the first fake's, where the curve starts.
    wanted = np.maximum(recalls * positives[-1] * (1 - 1e-12), np.finfo(np.float64).tiny)
    steps = np.minimum(np.searchsorted(positives, wanted), len(positives) - 1)
    return np.asarray(ratio(positives[steps], positives[steps] + curve.false_positives[steps]))


def recall_at_fpr(curve: Curve, fpr: float) -> float:
    """Return the best recall, in [0, 1], of a threshold with false positive rate <= `fpr`.

    Not interpolated: it is what an actual threshold reaches on these images. NaN if a class is
    absent.
    """
    if curve.false_positives[-1] == 0:
        return float("nan")
    # The tolerance keeps k/n from failing a limit of k/n by the last bit of a sum.
    allowed = fpr * curve.false_positives[-1] * (1 + 1e-12)
    steps = int(np.searchsorted(curve.false_positives, allowed, side="right"))
    reached = curve.true_positives[steps - 1] if steps else 0.0
    return float(ratio(reached, curve.true_positives[-1]))


def equal_error_rate(curve: Curve) -> float:
    """Return the rate, in [0, 1], where false positives are as frequent as false negatives.

    The crossing is interpolated along the ROC curve, so that ties and swapped classes do not
    matter. NaN if a class is absent.
    """
    if not (curve.true_positives[-1] > 0 and curve.false_positives[-1] > 0):
        return float("nan")

    def rates(step: int) -> tuple[float, float]:  # false positives and negatives; -1: none passed
        if step < 0:
            return 0.0, 1.0
        recall = curve.true_positives[step] / curve.true_positives[-1]
        return float(curve.false_positives[step] / curve.false_positives[-1]), float(1 - recall)

    # The first rate only rises and the second only falls, so that a bisection finds the crossing.
    steps = range(len(curve.thresholds))
    after = bisect_left(steps, True, key=lambda step: rates(step)[0] >= rates(step)[1])
    (low, miss_low), (high, miss_high) = rates(after - 1), rates(after)
    part = (miss_low - low) / (miss_low - low + high - miss_high)
    return low + part * (high - low)


def outcomes(y_true: IntArray, y_pred: IntArray) -> IntArray:
    """Return which entry of `Confusion` each verdict of `y_pred`, shape (n,), counts for."""
    return np.array([[3, 1], [2, 0]])[y_true, y_pred]


def confusion(outcomes: IntArray, weights: FloatArray | None = None) -> Confusion:
    """Count the `outcomes`, shape (n,)."""
    return Confusion(*np.bincount(outcomes, weights, minlength=4).astype(np.float64))


def recall(counts: Confusion) -> Number:
    """Return the share of the fakes that are called fake; NaN without fakes."""
    return ratio(counts.true_positives, counts.true_positives + counts.false_negatives)


def specificity(counts: Confusion) -> Number:
    """Return the share of the reals that are called real; NaN without reals."""
    return ratio(counts.true_negatives, counts.true_negatives + counts.false_positives)


def balanced_accuracy(counts: Confusion) -> Number:
    """Return the mean of recall and specificity; NaN if a class is absent."""
    return (recall(counts) + specificity(counts)) / 2


def precision(counts: Confusion) -> Number:
    """Return the share of fakes among what is called fake; 0 if nothing is."""
    called = counts.true_positives + counts.false_positives
    return np.nan_to_num(ratio(counts.true_positives, called))


def f1(counts: Confusion) -> Number:
    """Return the harmonic mean of precision and recall; NaN if nothing is or is called fake."""
    doubled = 2 * counts.true_positives
    return ratio(doubled, doubled + counts.false_positives + counts.false_negatives)


def brier_error(residuals: FloatArray, weights: FloatArray) -> float:
    """Return the mean squared distance, in [0, 1], of P(fake) from the truth.

    `residuals` are y_score - y_true, shape (n,).
    """
    return float(dot(residuals * weights, residuals) / weights.sum())


def calibration_square(residuals: FloatArray, starts: IntArray, weights: FloatArray) -> float:
    """Return the mean square, in [0, 1], of what calibration is off by.

    That is, over images, the mean of (mean score - share of fakes)^2 in the bin of an image.
    `residuals` are y_score - y_true, shape (n,), bin after bin; `starts` says where each begins
    (`bin_starts`). Noise alone makes it positive: `debiased_root` takes that out again.

    Source: Kumar, Liang and Ma 2019, Verified Uncertainty Calibration (NeurIPS), definition 2.3.
    """
    gaps = np.add.reduceat(residuals * weights, starts)
    sizes = np.add.reduceat(weights, starts)
    return float(np.nan_to_num(ratio(gaps**2, sizes)).sum() / sizes.sum())


def score_bins(y_score: FloatArray, bins: int) -> IntArray:
    """Return which of `bins` equal parts of [0, 1] each score falls into, numbered from 0."""
    return np.minimum((y_score * bins).astype(np.int64), bins - 1)


def bin_starts(bins: IntArray) -> IntArray:
    """Return where each bin begins among images in the order of their scores, `bins` of each."""
    starts: IntArray = np.append(0, np.flatnonzero(np.diff(bins)) + 1)
    return starts


def auroc_by(
    curve: Curve, steps: IntArray, y_true: IntArray, codes: IntArray, weights: FloatArray
) -> FloatArray:
    """Return the AUROC of each subset of one class against the whole other class, shape (subsets,).

    `codes`, shape (n,), number the subsets from 0; no subset may hold both classes. `curve` and
    `steps` are those of a `Ranking` under `weights`. One pass over the images serves all subsets.
    NaN for a subset without weight.
    """
    reals_above = (curve.false_positives - curve.reals / 2)[steps]
    fakes_above = (curve.true_positives - curve.fakes / 2)[steps]
    fakes, reals = (
        max(total[-1], 1e-300) for total in (curve.true_positives, curve.false_positives)
    )
    wins = np.where(y_true == 1, 1 - reals_above / reals, fakes_above / fakes)
    return np.asarray(ratio(np.bincount(codes, weights * wins), np.bincount(codes, weights)))
