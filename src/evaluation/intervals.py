"""Statistics of images -> confidence intervals that respect groups of images."""

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special
from tqdm import tqdm

from src.core.arrays import BoolArray, FloatArray, IntArray, keep_freed_memory

logger = logging.getLogger(__name__)


# More rounds would change no digit that anybody reads, and take days.
Rounds = Annotated[int, Field(ge=20, le=100_000)]
Statistic = Callable[[FloatArray], Mapping[str, Any]]


class Interval(NamedTuple):
    """Ends of a confidence interval; numbers, or arrays of the shape of the statistic."""

    low: Any
    high: Any


def bootstrap(
    statistic: Statistic, groups: NDArray[Any], rounds: int, seed: int
) -> dict[str, FloatArray]:
    """Return each entry of `statistic` in each round, arrays of shape (rounds, ...).

    A round draws as many groups as there are, with replacement; `statistic` gets how often each
    image was drawn, shape (n,), and returns numbers or arrays by name. Images of one group
    (crops of one photograph, a fake and its original) are drawn together because they are not
    independent: counted singly they would make every interval too narrow.

    Source: the cluster bootstrap, Davison and Hinkley 1997, Bootstrap Methods, section 3.8.
    """
    names, codes = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    keep_freed_memory()
    drawn = []
    # Nothing is shown of what takes a moment.
    for _ in tqdm(range(rounds), desc="bootstrap", unit=" rounds", delay=3, leave=False):
        counts = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        drawn.append(statistic(counts.astype(np.float64)[codes]))
    return {name: np.array([values[name] for values in drawn]) for name in drawn[0]}


def interval(samples: FloatArray, confidence: float, groups: int) -> Interval:
    """Return the central `confidence` part of `samples`, shape (rounds, ...), per entry.

    Widened as Student's quantile is for the number of `groups`, without which few groups give
    too narrow an interval. Rounds without a value (NaN: a class or subset was not drawn) are
    left out. Where groups or rounds are too few for such an interval, its ends are the extreme
    draws, and a warning says that it is too narrow.

    Source: Hesterberg 2015, The American Statistician 69, section 3.3, expanded percentiles.
    """
    student = _student(confidence, groups) * np.sqrt(groups / max(groups - 1, 1))
    tail = float(special.ndtr(-student))
    if tail * (len(samples) + 1) < 1:
        _warn_of_too_few(groups, len(samples), confidence)
    # R rounds divide the range into R + 1 gaps; the default would cut the tails short.
    low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0, method="weibull")
    return Interval(low, high)


@cache  # once, not for every metric
def _warn_of_too_few(groups: int, rounds: int, confidence: float) -> None:
    logger.warning(
        "%d groups and %d bootstrap rounds are too few for intervals of %g %%: they are too narrow",
        groups,
        rounds,
        100 * confidence,
    )


def bootstrap_intervals(
    statistic: Statistic, groups: NDArray[Any], rounds: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """Return the interval of each entry of `statistic`; see `bootstrap` and `interval`."""
    samples = bootstrap(statistic, groups, rounds, seed)
    count = len(np.unique(groups))
    return {name: interval(values, confidence, count) for name, values in samples.items()}


def rate_intervals(
    correct: BoolArray, codes: IntArray, groups: NDArray[Any], confidence: float
) -> Interval:
    """Return the interval of the share of `correct` images of each subset, shape (subsets,).

    `codes`, shape (n,), number the subsets from 0. Unlike the bootstrap it stays honest for a
    rate of 0 or 1 and for a handful of groups: Wilson's interval for as many independent images
    as the groups are worth, with Student's quantile for the number of groups.

    Source: Wilson 1927; effective sample size as in Korn and Graubard 1998, Survey Methodology 24.
    """
    names, group_codes = np.unique(groups, return_inverse=True)
    # One number for each pair sorts much faster than pairs do.
    pairs, members = np.unique(codes * len(names) + group_codes, return_inverse=True)
    subset = pairs // len(names)  # of each (subset, group)
    size = np.bincount(members).astype(np.float64)
    hits = np.bincount(members, weights=correct)
    images, clusters = np.bincount(subset, size), np.bincount(subset).astype(np.float64)
    rate = np.bincount(subset, hits) / images
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.bincount(subset, (hits - rate[subset] * size) ** 2)
        spread = squares * (clusters / (clusters - 1))
        independent = rate * (1 - rate) * images**2 / spread
    # Where nothing varies, the groups are all the evidence there is.
    effective = np.where(spread > 0, independent, clusters)
    z = float(special.ndtri((1 + confidence) / 2))
    worth = np.minimum(effective, images) * (z / _student(confidence, clusters)) ** 2
    return _wilson(rate, worth, z)


def _student(confidence: float, groups: Any) -> Any:
    # One group has no degree of freedom: its quantile is as good as infinite.
    return special.stdtrit(np.maximum(groups - 1, 1e-9), (1 + confidence) / 2)


def _wilson(rate: FloatArray, images: FloatArray, z: float) -> Interval:
    centre = rate * images + z**2 / 2
    half = z * np.sqrt(rate * (1 - rate) * images + z**2 / 4)
    return Interval((centre - half) / (images + z**2), (centre + half) / (images + z**2))
