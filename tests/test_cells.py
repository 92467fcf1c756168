"""Tests of src/cells.py."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.cells import cell_codes, find_cells, in_threads, rows_of_codes

COLUMNS = ["a", "b", "c"]
CELLS = st.tuples(st.sampled_from("xy"), st.integers(0, 3), st.sampled_from(["", "é", "z"]))


@given(rows=st.lists(CELLS, min_size=1, max_size=60), in_order=st.booleans())
def test_cells_are_groups(rows: list[tuple[str, int, str]], in_order: bool) -> None:
    table = pd.DataFrame(sorted(rows) if in_order else rows, columns=COLUMNS)
    index, found = find_cells(table, COLUMNS)
    groups = table.groupby(COLUMNS)
    assert index.equals(groups.size().index)
    numbers = np.arange(len(table))
    for number, of_cell in enumerate(found):
        np.testing.assert_array_equal(numbers[of_cell], numbers[groups.ngroup() == number])
    present, same = rows_of_codes(cell_codes(table, COLUMNS))
    assert len(present) == len(same) == len(index)
    if in_order:
        assert all(isinstance(of_cell, slice) for of_cell in found)


def test_no_rows_have_no_cells() -> None:
    present, rows = rows_of_codes(np.array([], dtype=np.int8))
    assert (len(present), rows) == (0, [])


@pytest.mark.parametrize("calls", [0, 1, 23])
def test_threads_make_every_call_once(calls: int) -> None:
    made: list[int] = []
    in_threads(made.append, [(number,) for number in range(calls)])
    assert sorted(made) == list(range(calls))


def test_what_a_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [(2,), (1,), (0,)])
