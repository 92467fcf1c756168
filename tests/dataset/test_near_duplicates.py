"""Tests of src/dataset/near_duplicates.py."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from src.core.arrays import UInt64Array
from src.core.hashing import image_keys
from src.dataset.near_duplicates import hash_clusters, merged_groups


def table(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    images = pd.DataFrame(rows, columns=["image_id", "group", "sha256", "perceptual_hash"])
    return images.assign(key=image_keys(images["image_id"]))


def groups(rows: list[tuple[str, str, str, str]], max_distance: int = 4) -> list[str]:
    return merged_groups(table(rows), max_distance).tolist()


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    pairs = pd.DataFrame({"one": one, "other": other}).drop_duplicates()
    return bool(pairs["one"].is_unique and pairs["other"].is_unique)


def single_linkage(hashes: UInt64Array, max_distance: int) -> np.ndarray:
    apart = np.bitwise_count(hashes[:, np.newaxis] ^ hashes).astype(float)
    return fcluster(linkage(squareform(apart), "single"), max_distance, "distance")


def test_groups_by_hand() -> None:
    assert groups(
        [
            ("d", "photo", "1", "0000000000000000"),  # shares its source's group with c
            ("c", "photo", "2", "ffffffffffffffff"),
            ("b", "b", "3", "fffffffffffffff0"),  # 4 bits from c
            ("a", "a", "3", "aaaaaaaaaaaaaaaa"),  # the same bytes as b
            ("e", "e", "4", "5555555555555555"),  # alone
            ("f", "f", "5", "00000000000fffff"),  # 20 bits from d
        ]
    ) == ["a", "a", "a", "a", "e", "f"]


@pytest.mark.parametrize(("max_distance", "expected"), [(3, ["a", "b"]), (4, ["a", "a"])])
def test_the_limit_is_inclusive(max_distance: int, expected: list[str]) -> None:
    rows = [("a", "a", "1", "000000000000000f"), ("b", "b", "2", "0000000000000000")]
    assert groups(rows, max_distance) == expected


def test_a_chain_is_one_group() -> None:
    rows = [(f"{i:02d}", f"{i}", f"{i}", f"{(1 << 3 * i) - 1:016x}") for i in range(21)]
    assert set(groups(rows)) == {"00"}


def test_flat_images_are_not_linked() -> None:
    assert groups([("a", "a", "1", ""), ("b", "b", "2", "")]) == ["a", "b"]


def test_flat_images_with_the_same_bytes_are_linked() -> None:
    assert groups([("a", "a", "1", ""), ("b", "b", "1", "")]) == ["a", "a"]


def test_index_is_kept() -> None:
    images = table([("b", "g", "1", ""), ("a", "g", "2", "")]).set_axis([7, 3])
    assert merged_groups(images, 0).to_dict() == {7: "a", 3: "a"}


@given(
    seed=st.integers(0, 2**32 - 1),
    max_distance=st.integers(0, 8),
    flips=st.integers(0, 6),
    centres=st.integers(1, 20),
)
def test_clusters_are_single_linkage(
    seed: int, max_distance: int, flips: int, centres: int
) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.choice(rng.integers(0, 2**64, centres, dtype=np.uint64), 60)
    for _ in range(flips):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, 60, dtype=np.uint64))
    assert same_partition(hash_clusters(hashes, max_distance), single_linkage(hashes, max_distance))


@given(st.data())
def test_row_order_does_not_matter(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    names = [f"{i:03d}" for i in range(40)]
    hashes = [f"{value:016x}" for value in rng.integers(0, 64, 40)]
    images = table(
        list(zip(names, names, rng.integers(0, 30, 40).astype(str), hashes, strict=True))
    )
    shuffled = images.sample(frac=1, random_state=data.draw(st.integers(0, 2**31)))
    one, other = merged_groups(images, 1), merged_groups(shuffled, 1)
    pd.testing.assert_series_equal(one, other.sort_index())


@pytest.mark.parametrize("max_distance", [2, 4])
def test_crowded_buckets_do_not_explode(max_distance: int) -> None:
    # 100,000 images around one picture, 3,000 of them different: one component, in seconds.
    rng = np.random.default_rng(0)
    hashes = np.full(100_000, 0x0123456789ABCDEF, dtype=np.uint64)
    for _ in range(2):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, hashes.size, dtype=np.uint64))
    assert hash_clusters(hashes, max_distance).max() == 0
