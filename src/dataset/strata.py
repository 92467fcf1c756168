"""Rows that are alike, counted and found by the numbers of their names instead of by their text."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.integer]
Rows = Numbers | slice  # which rows: their numbers, or from the first to before the last
Cell = tuple[Any, ...]  # the values that rows have in common


def find_cells(rows: pd.DataFrame, columns: Sequence[str]) -> dict[Cell, Rows]:
    """Return the cells of `rows`, and the rows of each.

    A cell is all rows with the same values of `columns`, and cells are in the order of these: what
    `groupby(columns)` finds, in a tenth of its time.
    """
    kinds = [pd.Categorical(rows[column]) for column in columns]
    present, found = rows_of_codes(_codes(kinds))
    places = np.unravel_index(present, [len(kind.categories) for kind in kinds])
    values = [
        kind.categories.take(place).tolist() for kind, place in zip(kinds, places, strict=True)
    ]
    return dict(zip(zip(*values, strict=True), found, strict=True))


def _codes(kinds: Sequence[pd.Categorical]) -> Numbers:
    """Return a number for the cell of each row, in the order of cells."""
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


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all `parts`; slices are of rows that follow each other."""
    slices = [part for part in parts if isinstance(part, slice)]
    if slices:
        return slice(slices[0].start, slices[-1].stop)
    return np.concatenate([part for part in parts if not isinstance(part, slice)])
