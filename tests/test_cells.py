"""Tests of src/cells.py."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.cells import count_cells, in_threads, rows_of_cells

COLUMNS = ["a", "b", "c"]
CELLS = st.tuples(st.sampled_from("xy"), st.integers(0, 3), st.sampled_from(["", "é", "z"]))


@given(rows=st.lists(CELLS, min_size=1, max_size=60))
def test_cells_are_groups(rows: list[tuple[str, int, str]]) -> None:
    table = pd.DataFrame(rows, columns=COLUMNS)
    cell, count = count_cells(table, COLUMNS)
    groups = table.groupby(COLUMNS)
    np.testing.assert_array_equal(cell, groups.ngroup())
    assert count.to_dict() == groups.size().to_dict()
    assert count.index.equals(groups.size().index)
    for number, found in enumerate(rows_of_cells(cell, count.to_numpy())):
        np.testing.assert_array_equal(found, np.flatnonzero(cell == number))


@pytest.mark.parametrize("calls", [0, 1, 23])
def test_threads_make_every_call_once(calls: int) -> None:
    made: list[int] = []
    in_threads(made.append, [(number,) for number in range(calls)])
    assert sorted(made) == list(range(calls))


def test_what_a_thread_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [(2,), (1,), (0,)])
