"""Labels in the order of their scores: what every threshold lets through, and the AUROC.

Apart from `metrics`, so that a new metric reruns nothing but `evaluate`: the gate before
the training, `shortcuts`, needs no more than this.
"""

from typing import Any, NamedTuple

import numpy as np

from src.core.arrays import FloatArray, IntArray

# A float, or an array of them: formulas of counts hold for one threshold and for all of them.
Number = Any


class Curve(NamedTuple):
    """What every distinct threshold lets through, from the highest score down."""

    thresholds: FloatArray  # (k,), falling
    fakes: FloatArray  # (k,) weight of the fakes whose score is the threshold
    reals: FloatArray  # (k,) weight of the reals whose score is the threshold
    true_positives: FloatArray  # (k,) running sum of fakes: those with score >= threshold
    false_positives: FloatArray  # (k,) running sum of reals


class Ranking:
    """Labels in the order of their scores, sorted once, to be weighted many times."""

    def __init__(self, y_true: IntArray, y_score: FloatArray) -> None:
        """Sort `y_true`, shape (n,) of 0 and 1, by `y_score`, shape (n,), from high to low."""
        self._order = np.argsort(-y_score, kind="stable")
        scores = y_score[self._order]
        self._fake = y_true[self._order].astype(np.float64)
        # Images with one score pass a threshold together: a tie is one step of every curve.
        self._first = np.append(0, np.flatnonzero(np.diff(scores)) + 1)
        self._thresholds = scores[self._first]
        sizes = np.diff(self._first, append=len(scores))
        self.step: IntArray = np.empty(len(scores), dtype=np.int64)
        """The step of the curve, shape (n,) in the order given, that each image belongs to."""
        self.step[self._order] = np.arange(len(sizes)).repeat(sizes)

    def curve(self, weights: FloatArray | None = None) -> Curve:
        """Return the curve when image i counts `weights[i]` times (None: once)."""
        both = np.ones(len(self._order)) if weights is None else weights[self._order]
        fakes = both * self._fake
        reals = np.subtract(both, fakes, out=both)
        if len(self._first) < len(fakes):
            fakes, reals = (np.add.reduceat(each, self._first) for each in (fakes, reals))
        return Curve(self._thresholds, fakes, reals, np.cumsum(fakes), np.cumsum(reals))


def auroc(curve: Curve) -> float:
    """Return the chance, in [0, 1], that a fake scores above a real; a tie counts one half.

    NaN if a class is absent.
    """
    area = dot(curve.reals, curve.true_positives) - dot(curve.reals, curve.fakes) / 2
    return float(ratio(area, curve.true_positives[-1] * curve.false_positives[-1]))


def ratio(part: Number, whole: Number) -> Number:
    """Return `part / whole`, NaN or infinite where `whole` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(part, whole)


def dot(left: FloatArray, right: FloatArray) -> float:
    """Return the sum of the products, to the same last bit on every run."""
    # Not np.dot: BLAS shares long sums out among threads, so that their last bits depend on the
    # machine, and its threads wait for each other in a busy loop.
    return float(np.einsum("i,i->", left, right))


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
