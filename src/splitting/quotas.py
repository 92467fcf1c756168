"""How many images to draw from where: equal classes, equal methods, equal mixes of categories.

Every draw is the beginning of a sequence that does not depend on its length, so that a larger
draw takes at least as many from everywhere as a smaller one.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from src.core.arrays import IntArray

Cell = tuple[str, str]  # method, category


def apportion(weights: Sequence[float], total: int) -> IntArray:
    """Return `total` units shared out in proportion to `weights`, shape (len(weights),).

    Source: Webster (Sainte-Lague); of the common rules the fairest that takes nothing away when
    the total grows.
    """
    return np.bincount(webster_sequence(weights, total), minlength=len(weights))


def webster_sequence(weights: Sequence[float], total: int) -> IntArray:
    """Return which of `weights` receives the first, second, ... of `total` units, shape (total,).

    Weights are not negative, and one at least is positive.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    # Enough for each: all quotas rounded down by half a unit would leave half a unit a weight.
    most = np.ceil(shares * (total + len(shares) / 2) + 0.5).astype(np.int64)
    lengths = np.where(shares > 0, most, 0)
    owners = np.repeat(np.arange(len(shares)), lengths)
    units = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    order = np.lexsort((owners, (units + 0.5) / shares[owners]))
    return owners[order[:total]]


def fill(categories: Iterable[str], available: Mapping[Cell, int]) -> dict[Cell, int]:
    """Return how many images to draw from each cell, that is, method and category.

    One image is drawn for each element of `categories`, from the method with the fewest so far of
    those that have images of that category left: methods come out as equal as the data allow.
    `available` must hold enough images of every category.
    """
    methods = {method: number for number, method in enumerate(sorted({m for m, _ in available}))}
    left = {category: [0] * len(methods) for _, category in available}
    for (method, category), count in available.items():
        left[category][methods[method]] = count
    # Images drawn of a method, and which it is, as one number: in order, the next comes first.
    turns = list(range(len(methods)))
    for category in categories:
        of_category = left[category]
        place = 0
        while not of_category[turns[place] % len(methods)]:
            place += 1
        turn = turns.pop(place)
        of_category[turn % len(methods)] -= 1
        insort(turns, turn + len(methods))
    return {
        (method, category): count - left[category][methods[method]]
        for (method, category), count in available.items()
    }
