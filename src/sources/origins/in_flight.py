"""Many reads in flight, and few requests for many members."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from src.core.arrays import BoolArray, IntArray

Item = TypeVar("Item")
Result = TypeVar("Result")

# Requests at a time, from a server that is near. More of them would only wait in it.
IN_FLIGHT = 32
# And from one that is far, where latency is what small files cost: 128 at 25 ms are as many a
# second as S3 takes from everybody (5,500 for a prefix).
MOST_IN_FLIGHT = 128
# One request reads at most so much, and so much is held in memory.
MAX_RUN = 8 * 2**20
_HELD = IN_FLIGHT * MAX_RUN
# Bytes that are read for nothing to save requests, as a part of those that are wanted.
MAX_WASTE = 0.2
_NEVER = 2**62  # a gap that nothing is worth
_GAIN = 1.2  # results a second, of twice as many requests, that more of them are kept for
_BUSY = 0.5  # of a core: from there on, not the network but this process sets the pace


class _Flight:
    """How many requests are in flight: twice as many for as long as more come for it."""

    def __init__(self, first: int, most: int) -> None:
        self.now, self._most = first, most
        self._rate = 0.0  # results a second that half as many brought
        self._results = 0
        self._began = _clocks()
        self._is_settled = 2 * first > most

    def landed(self) -> None:
        """Take notice of one more result."""
        if self._is_settled:
            return
        self._results += 1
        if self._results == self.now:  # those before it were not asked for at this pace
            self._began = _clocks()
        elif self._results == 4 * self.now:
            self._decide(3 * self.now)

    def _decide(self, results: int) -> None:
        wall, cpu = (now - then for now, then in zip(_clocks(), self._began, strict=True))
        rate = results / wall
        if rate < _GAIN * self._rate:
            self.now //= 2
            self._is_settled = True
        elif cpu > _BUSY * wall or 2 * self.now > self._most:
            self._is_settled = True
        else:
            self.now, self._rate, self._results = 2 * self.now, rate, 0


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    in_flight: int = IN_FLIGHT,
    most: int = 0,
) -> Iterator[Result]:
    """Yield `work(item)` of each item in their order, at most `in_flight` at a time or unread.

    While they wait for a server that is far away it doubles, up to `most`, as long as that pays.
    """
    waiting: deque[Future[Result]] = deque()
    flight = _Flight(in_flight, most)
    with ThreadPoolExecutor(max(in_flight, most)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while len(waiting) >= flight.now:
                    yield waiting.popleft().result()
                    flight.landed()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def most_in_flight(largest: int) -> int:
    """Return how many requests may be in flight if none brings more than `largest` bytes."""
    return max(IN_FLIGHT, min(MOST_IN_FLIGHT, _HELD // max(1, largest)))


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
