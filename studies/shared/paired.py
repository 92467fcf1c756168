"""Two detectors on the same images -> how much they differ, and whether by more than chance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from src.core.arrays import BoolArray, FloatArray, IntArray
from src.evaluation import metrics
from src.evaluation.intervals import bootstrap, interval
from src.evaluation.ranking import Ranking, auroc, mcc


class Scored:
    """Images with the scores of one detector, sorted once, to be weighted many times."""

    def __init__(self, y_true: IntArray, y_score: FloatArray, threshold: float) -> None:
        """Take labels and scores, both of shape (n,); a score >= `threshold` means fake."""
        verdicts = (y_score >= threshold).astype(np.int64)
        self.correct: BoolArray = verdicts == y_true
        """Whether the verdict on each image is right, shape (n,)."""
        self._ranking = Ranking(y_true, y_score)
        self._outcomes = metrics.outcomes(y_true, verdicts)

    def metrics(self, weights: FloatArray | None = None) -> dict[str, float]:
        """Return the metrics when image i counts `weights[i]` times (None: once)."""
        curve = self._ranking.curve(weights)
        counts = metrics.confusion(self._outcomes, weights)
        return {
            "mcc": float(mcc(counts)),
            "ap": metrics.average_precision(curve),
            "auroc": auroc(curve),
            "recall": float(metrics.recall(counts)),
            "specificity": float(metrics.specificity(counts)),
        }


class Difference(NamedTuple):
    """A metric of two detectors on the same images, and `second - first` with its interval."""

    first: float
    second: float
    change: float
    low: float
    high: float
    p_value: float  # two-sided: chance of such a change, were there none


def differences(
    first: Scored,
    second: Scored,
    groups: NDArray[np.str_],
    rounds: int,
    confidence: float,
    seed: int,
) -> dict[str, Difference]:
    """Return the difference of each of `Scored.metrics`, by name.

    Both detectors are judged on the same draws of `groups`, shape (n,): what makes a draw easy
    makes it easy for both and cancels, so that the interval is that of the difference and not of
    two detectors on different images.
    """

    def statistic(weights: FloatArray) -> dict[str, float]:
        one, other = first.metrics(weights), second.metrics(weights)
        return {name: other[name] - one[name] for name in one}

    samples = bootstrap(statistic, groups, rounds, seed)
    count = len(np.unique(groups))
    one, other = first.metrics(), second.metrics()
    found = {}
    for name, drawn in samples.items():
        low, high = interval(drawn, confidence, count)
        p_value = bootstrap_p_value(drawn, count)
        change = other[name] - one[name]
        found[name] = Difference(one[name], other[name], change, float(low), float(high), p_value)
    return found


def bootstrap_p_value(samples: FloatArray, groups: int) -> float:
    """Return the two-sided p-value, in (0, 1], of a difference whose draws are `samples`.

    The smallest 1 - confidence at which `intervals.interval` leaves out 0, where there are rounds
    enough for that interval; rounds without a value (NaN) are left out.

    Source: Davison and Hinkley 1997, Bootstrap Methods, section 5.2: a test inverts an interval.
    """
    drawn = samples[~np.isnan(samples)]
    beyond = 1 + min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    quantile = special.ndtri(min(0.5, beyond / (1 + len(drawn))))
    student = quantile / np.sqrt(groups / max(groups - 1, 1))
    return float(2 * special.stdtr(max(groups - 1, 1e-9), student))


class McNemar(NamedTuple):
    """Images that one of two detectors calls right and the other wrong."""

    only_first: int  # right by the first alone
    only_second: int
    p_value: float


def mcnemar(first: BoolArray, second: BoolArray) -> McNemar:
    """Return McNemar's exact test of two detectors' `correct`, shape (n,).

    It takes the images for independent, which those of one group are not.

    Source: McNemar 1947, Psychometrika 12; exact as a binomial test of the discordant pairs.
    """
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return McNemar(only_first, only_second, float(p_value))
