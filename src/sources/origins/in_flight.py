"""How many requests are in flight, and which members one request brings."""

import numpy as np

from src.core.arrays import BoolArray, IntArray

# Requests at a time. Fewer would wait for a server that is far away, more in one that is near.
IN_FLIGHT = 96
# One request reads at most so much, and so much is held in memory.
MAX_RUN = 8 * 2**20
_HELD = 32 * MAX_RUN
# Bytes that are read for nothing to save requests, as a part of those that are wanted.
MAX_WASTE = 0.2
_NEVER = 2**62  # a gap that nothing is worth


def most_in_flight(largest: int) -> int:
    """Return how many requests may be in flight if none brings more than `largest` bytes."""
    return max(1, min(IN_FLIGHT, _HELD // max(1, largest)))


def runs(file: IntArray, begin: IntArray, end: IntArray) -> list[IntArray]:
    """Return the positions of the ranges that are read together, in runs, by file and offset.

    Ranges are joined across the smallest gaps first, until the bytes between them are MAX_WASTE
    of the bytes wanted: how much too much is read does not depend on how thin a subset is.
    """
    order = np.lexsort((begin, file))
    begins, ends = begin[order], end[order]
    gaps = np.maximum(begins[1:] - ends[:-1], 0)
    gaps[np.diff(file[order]) != 0] = _NEVER
    smallest = np.argsort(gaps, kind="stable")
    wasted = np.cumsum(gaps[smallest], dtype=np.float64)
    joined = np.zeros(len(gaps), dtype=bool)
    joined[smallest[wasted <= MAX_WASTE * (ends - begins).sum()]] = True
    return np.split(order, _cuts(begins, ends, joined)) if len(order) else []


def _cuts(begins: IntArray, ends: IntArray, joined: BoolArray) -> list[int]:
    cuts, first = [], 0
    for position in range(1, len(begins)):
        if not joined[position - 1] or ends[position] - begins[first] > MAX_RUN:
            cuts.append(position)
            first = position
    return cuts
