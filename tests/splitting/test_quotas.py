"""Tests of src/splitting/quotas.py."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from src.splitting.quotas import apportion, fill, webster_sequence

WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


def test_apportion_by_hand() -> None:
    assert apportion([0.7, 0.1, 0.2], 100).tolist() == [70, 10, 20]
    # Quotas 2.4, 1.5, 0.1: Webster rounds to the nearest.
    assert apportion([24, 15, 1], 4).tolist() == [2, 2, 0]


@given(weights=WEIGHTS, total=st.integers(0, 300))
def test_apportion_adds_up_and_is_nearly_proportional(weights: list[int], total: int) -> None:
    units = apportion(weights, total)
    quotas = np.array(weights) / sum(weights) * total
    assert units.sum() == total
    assert (np.abs(units - quotas) <= 1 + len(weights) * np.array(weights) / sum(weights)).all()
    assert (units[np.array(weights) == 0] == 0).all()


@given(weights=WEIGHTS, total=st.integers(0, 300))
def test_a_longer_sequence_begins_with_the_shorter(weights: list[int], total: int) -> None:
    longer = webster_sequence(weights, total + 7)
    assert webster_sequence(weights, total).tolist() == longer[:total].tolist()


@given(weights=WEIGHTS, data=st.data())
def test_nothing_receives_more_than_its_weight_in_images(
    weights: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    assert (apportion(weights, total) <= np.array(weights)).all()


def test_methods_fill_like_water() -> None:
    available = {("a", ""): 2, ("b", ""): 100, ("c", ""): 100}
    assert fill([""] * 12, available) == {("a", ""): 2, ("b", ""): 5, ("c", ""): 5}


def test_a_method_that_alone_has_a_category_leaves_the_other_to_its_neighbour() -> None:
    available = {("a", "face"): 10, ("b", "face"): 10, ("b", "cat"): 10}
    drawn = fill(["cat", "face"] * 10, available)
    assert drawn == {("a", "face"): 10, ("b", "face"): 0, ("b", "cat"): 10}


CELLS = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz")), st.integers(0, 9), min_size=1
)


@given(available=CELLS, seed=st.integers(0, 2**32 - 1))
def test_fill_draws_what_is_asked_from_what_there_is(
    available: dict[tuple[str, str], int], seed: int
) -> None:
    wanted = [category for (_, category), count in available.items() for _ in range(count)]
    np.random.default_rng(seed).shuffle(wanted)
    wanted = wanted[: len(wanted) // 2]
    drawn = fill(wanted, available)
    assert all(count <= available[cell] for cell, count in drawn.items())
    by_category: Counter[str] = Counter()
    for (_, category), count in drawn.items():
        by_category[category] += count
    assert by_category == Counter(wanted)


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), data=st.data())
def test_only_an_empty_method_has_less_than_the_others(
    counts: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(counts)))
    available = {(f"{i}", ""): count for i, count in enumerate(counts)}
    drawn = fill([""] * total, available)
    most = max(drawn.values(), default=0)
    for cell, count in available.items():
        assert drawn[cell] == count or drawn[cell] >= most - 1
