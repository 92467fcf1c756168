"""Laws of the draws."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from src.core.hashing import count_distinct, group_keys, image_key, image_keys, ranks

SEEDS = st.integers(0, 2**32)


def test_a_key_is_the_first_eight_bytes_of_blake2b() -> None:
    # From `printf 'glide/img000000.jpg' | b2sum -l 64`.
    assert f"{image_key('glide/img000000.jpg'):016x}" == "9cf6f1011955bc2f"


@given(seed=SEEDS)
def test_a_rank_depends_on_the_key_and_the_seed_alone(seed: int) -> None:
    keys = image_keys(f"a/{i}" for i in range(50))
    assert (ranks(keys[::-1], seed)[::-1] == ranks(keys, seed)).all()
    assert (ranks(keys[:7], seed) == ranks(keys, seed)[:7]).all()


def test_the_key_of_a_group_is_that_of_the_image_it_is_named_after() -> None:
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "group": ["a", "a", "z"]}, index=[5, 3, 4])
    images["key"] = image_keys(images["image_id"])
    assert group_keys(images).tolist() == [image_key("a"), image_key("a"), image_key("z")]
    assert images["key"].tolist() == [image_key(name) for name in "abc"]


@given(seed=SEEDS)
def test_another_seed_is_another_order(seed: int) -> None:
    keys = image_keys(f"a/{i}" for i in range(50))
    assert (np.argsort(ranks(keys, seed)) != np.argsort(ranks(keys, seed + 1))).any()


def test_a_draw_is_uniform() -> None:
    # 10,000 draws of the first half of a list: the share is within four standard errors of 1/2.
    keys = image_keys(f"a/{i}" for i in range(10_000))
    first = (np.argsort(ranks(keys, 0))[:5000] < 5000).mean()
    assert abs(first - 0.5) < 4 * 0.5 / np.sqrt(10_000)


@given(keys=st.lists(st.integers(0, 5)))
def test_distinct_keys_are_counted(keys: list[int]) -> None:
    assert count_distinct(np.array(keys, np.uint64)) == len(set(keys))
