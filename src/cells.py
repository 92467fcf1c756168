"""Rows that are alike, counted and found by the numbers of their names instead of by their text."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_THREADS = min(4, os.cpu_count() or 1)  # each holds copies of its rows

Numbers = NDArray[np.integer]
Rows = Numbers | slice  # which rows: their numbers, or from the first to before the last


def find_cells(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.MultiIndex, Sequence[Rows]]:
    """Return the cells of `rows`, and the rows of each.

    A cell is all rows with the same values of `columns`, and cells are in the order of these: what
    `groupby(columns)` finds, in a tenth of its time.
    """
    kinds = [pd.Categorical(rows[column]) for column in columns]
    present, found = rows_of_codes(_codes(kinds))
    places = np.unravel_index(present, [len(kind.categories) for kind in kinds])
    values = [kind.categories.take(place) for kind, place in zip(kinds, places, strict=True)]
    return pd.MultiIndex.from_arrays(values, names=list(columns)), found


def cell_codes(rows: pd.DataFrame, columns: Sequence[str]) -> Numbers:
    """Return a number for the cell of each row, in the order of cells."""
    return _codes([pd.Categorical(rows[column]) for column in columns])


def _codes(kinds: Sequence[pd.Categorical]) -> Numbers:
    end = math.prod(len(kind.categories) for kind in kinds)
    code = np.zeros(len(kinds[0]), np.min_scalar_type(-end))
    for kind in kinds:
        code *= len(kind.categories)
        code += kind.codes
    return code


def rows_of_codes(code: Numbers) -> tuple[Numbers, Sequence[Rows]]:
    """Return the distinct of `code` in order, and the rows of each."""
    if (code[1:] >= code[:-1]).all():  # as in data/metadata.arrow: nothing to sort or to copy
        starts = np.append(0, np.flatnonzero(code[1:] != code[:-1]) + 1)[: len(code)]
        ends = np.append(starts[1:], len(code))
        return code[starts], list(map(slice, starts.tolist(), ends.tolist()))
    present, cell = _renumbered(code)
    few = cell.astype(np.min_scalar_type(len(present)))  # numpy sorts these by digits
    order = np.argsort(few, kind="stable")
    return present, np.split(order, np.cumsum(np.bincount(few))[:-1])


def _renumbered(code: Numbers) -> tuple[Numbers, Numbers]:
    """Return the distinct of `code`, in order, and the place of each."""
    if code.max() >= len(code):  # too many for a table of all
        return np.unique(code, return_inverse=True)
    is_present = np.bincount(code) > 0
    place = np.cumsum(is_present) - 1
    return np.flatnonzero(is_present), place[code]


def in_threads(work: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call `work` with each of `calls`, in a few threads: numpy sorts beside Python."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda call: work(*call), calls))
