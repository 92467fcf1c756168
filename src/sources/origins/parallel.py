"""Many reads in flight, and few requests for many members."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")
Int64Array = NDArray[np.int64]

# Requests at a time: latency is what loose files cost. Below what servers take for an attack.
IN_FLIGHT = 32
# One request reads at most so much: 32 of them are held in memory.
MAX_RUN = 8 * 2**20
# Bytes that are read for nothing to save requests, as a part of those that are wanted.
MAX_WASTE = 0.2
_NEVER = 2**62  # a gap that nothing is worth


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], in_flight: int = IN_FLIGHT
) -> Iterator[Result]:
    """Yield `work(item)` of each item in their order, at most `in_flight` at a time or unread."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(in_flight) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def runs(file: Int64Array, begin: Int64Array, end: Int64Array) -> list[Int64Array]:
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


def _cuts(begins: Int64Array, ends: Int64Array, joined: NDArray[np.bool_]) -> list[int]:
    cuts, first = [], 0
    for position in range(1, len(begins)):
        if not joined[position - 1] or ends[position] - begins[first] > MAX_RUN:
            cuts.append(position)
            first = position
    return cuts
