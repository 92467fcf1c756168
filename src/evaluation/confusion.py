"""Counts of right and wrong verdicts -> Matthews' correlation; scores -> its best threshold.

Apart from `metrics`, so that a new metric reruns nothing but `evaluate`: the threshold is
frozen before, on validation.
"""

from typing import NamedTuple

import numpy as np

from src.evaluation.ranking import Curve, Number, ratio


class Confusion(NamedTuple):
    """Weights of the four outcomes; numbers, or arrays with one entry per threshold."""

    true_positives: Number
    false_positives: Number
    false_negatives: Number
    true_negatives: Number


def confusions(curve: Curve) -> Confusion:
    """Return the outcomes at every threshold of `curve`, arrays of shape (k,)."""
    positives, negatives = curve.true_positives, curve.false_positives
    return Confusion(positives, negatives, positives[-1] - positives, negatives[-1] - negatives)


def mcc(counts: Confusion) -> Number:
    """Return Matthews' correlation coefficient, in [-1, 1]; 0 if a row or column is empty."""
    tp, fp, fn, tn = counts
    spread = np.sqrt((tp + fp) * (fn + tn)) * np.sqrt((tp + fn) * (fp + tn))
    return np.nan_to_num(ratio(tp * tn - fp * fn, spread))


def best_threshold(curve: Curve) -> float:
    """Return the threshold with the highest MCC: images with score >= threshold are called fake.

    It lies half-way between the two neighbouring scores it separates, so that it hangs on no
    single image. Of cuts with equal MCC the one with the widest gap wins, then the highest.

    Raises:
        ValueError: all scores are equal, so that no threshold separates anything.
    """
    if len(curve.thresholds) < 2:
        raise ValueError(f"every score is {curve.thresholds[0]:g}: no threshold separates them")
    quality = mcc(confusions(curve))[:-1]  # the last threshold calls everything fake
    gaps = -np.diff(curve.thresholds)
    tied = quality >= quality.max() - 1e-12
    cut = int(np.argmax(np.where(tied, gaps, -1.0)))
    return float(curve.thresholds[cut] - gaps[cut] / 2)
