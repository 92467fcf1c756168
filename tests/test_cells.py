"""Tests of src/cells.py."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from src.cells import count_cells, rows_of_cells

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
