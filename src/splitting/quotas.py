"""How many images to draw from where: equal classes, equal methods, equal mixes of categories.

Every draw is the beginning of a sequence that does not depend on its length, so that a larger
draw takes at least as many from everywhere as a smaller one.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from src.core.arrays import IntArray


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


def fill(
    categories: Iterable[str], available: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], int]:
    """Return how many images to draw of each method and category.

    One image is drawn for each element of `categories`, from the method with the fewest so far of
    those that have images of that category left: methods come out as equal as the data allow.
    `available` must hold enough images of every category.
    """
    left: dict[str, dict[str, int]] = {category: {} for _, category in available}
    for (method, category), count in available.items():
        left[category][method] = count
    # Methods by how many of their images are drawn, then by name.
    turns = sorted({(0, method) for method, _ in available})
    for category in categories:
        of_category = left[category]
        for place, (drawn, method) in enumerate(turns):
            if of_category.get(method):
                of_category[method] -= 1
                del turns[place]
                insort(turns, (drawn + 1, method))
                break
    return {
        (method, category): count - left[category][method]
        for (method, category), count in available.items()
    }
