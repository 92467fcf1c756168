"""A mean square that noise alone makes positive -> its root without the noise, and an interval."""

import numpy as np

from src.core.arrays import FloatArray
from src.evaluation.intervals import interval


def debiased_root(
    square: float, samples: FloatArray, confidence: float, groups: int
) -> tuple[float, float, float]:
    """Return the root of `square` less its bias, and the ends of its interval, all >= 0.

    `samples` is `square` in each bootstrap round, shape (rounds,). Images differ from the truth as
    rounds differ from the images, so what the rounds add on average, the images added too, and
    the rounds hold it twice. Of a square this is exact, of an absolute difference (the usual
    calibration error) it is not: intervals for that miss a truth of 0 more often than not.

    Source: Kumar, Liang and Ma 2019, Verified Uncertainty Calibration (NeurIPS), section 4, with
    the variance of the cluster bootstrap (groups of images) in place of the binomial one; Efron
    and Tibshirani 1993, An Introduction to the Bootstrap, section 10.6.
    """
    noise = float(np.nanmean(samples)) - square
    ends = interval(samples - 2 * noise, confidence, groups)
    value, low, high = np.sqrt(np.maximum([square - noise, *ends], 0))
    return float(value), float(low), float(high)
