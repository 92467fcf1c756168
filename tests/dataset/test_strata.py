"""Tests of src/dataset/strata.py."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.dataset.strata import find_cells, joined, rows_of_codes

COLUMNS = ["a", "b", "c"]
CELLS = st.tuples(st.sampled_from("xy"), st.integers(0, 3), st.sampled_from(["", "é", "z"]))


@given(rows=st.lists(CELLS, min_size=1, max_size=60), in_order=st.booleans())
def test_cells_are_groups(rows: list[tuple[str, int, str]], in_order: bool) -> None:
    table = pd.DataFrame(sorted(rows) if in_order else rows, columns=COLUMNS)
    found = find_cells(table, COLUMNS)
    groups = table.groupby(COLUMNS)
    assert list(found) == groups.size().index.to_list()
    numbers = np.arange(len(table))
    for number, of_cell in enumerate(found.values()):
        np.testing.assert_array_equal(numbers[of_cell], numbers[groups.ngroup() == number])
    if in_order:
        assert all(isinstance(of_cell, slice) for of_cell in found.values())


def test_no_rows_have_no_cells() -> None:
    present, rows = rows_of_codes(np.array([], dtype=np.int8))
    assert (len(present), rows) == (0, [])


@pytest.mark.parametrize("codes", [[0, 0, 1, 2, 2], [2, 0, 1, 0, 2]])
def test_what_is_joined_is_the_rows_of_all(codes: list[int]) -> None:
    _, rows = rows_of_codes(np.array(codes))
    numbers = np.arange(5)
    for count in (1, 2, 3):
        expected = np.flatnonzero(np.array(codes) < count)
        np.testing.assert_array_equal(np.sort(numbers[joined(rows[:count])]), expected)
