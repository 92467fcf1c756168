"""Tests of src/dataset/sampling.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.tables import read_parquet, write_parquet
from src.dataset.sampling import (
    COMPARED,
    COPIED,
    SAMPLING,
    STRATUM,
    images_of,
    representative_keys,
    rows_of_each,
)
from tests.helpers.make_metadata import make_metadata


@pytest.fixture
def metadata() -> pd.DataFrame:
    table = make_metadata(images_per_method=10).sample(frac=1, random_state=0, ignore_index=True)
    table["offset"] = 2**33 + np.arange(50)
    table["category"] = ["b", "", "é, ü", "a", "b"] * 10
    table["given_split"] = ["", "train", "val", "test", ""] * 10
    table["group"] = table["image_id"].iloc[np.arange(50) // 3 * 3].to_numpy()
    return table.assign(group_key=representative_keys(table))


def test_a_group_counts_as_its_real_image_or_else_as_the_one_of_the_least_key(
    metadata: pd.DataFrame,
) -> None:
    representative = images_of(metadata).representative
    for _, group in metadata.groupby("group"):
        expected = group.sort_values(["label", "key"]).index[0]
        assert (representative[group.index] == expected).all()


def test_a_group_that_is_named_after_an_image_that_is_gone(metadata: pd.DataFrame) -> None:
    table = metadata.assign(group=["gone"] * 2 + metadata["image_id"].to_list()[2:])
    images = images_of(table.assign(group_key=representative_keys(table)))
    assert images.representative[0] == images.representative[1] in (0, 1)
    assert images.representative[2:].tolist() == list(range(2, 50))


def test_strata_are_those_of_groupby(metadata: pd.DataFrame) -> None:
    images = images_of(metadata)
    groups = metadata.groupby(STRATUM)
    assert images.strata.to_numpy().tolist() == [list(names) for names in groups.size().index]
    np.testing.assert_array_equal(images.stratum, groups.ngroup())
    assert images.given_split.tolist() == [0, 1, 2, 3, 0] * 10


def test_from_the_file_is_the_same_as_from_the_table(
    tmp_path: Path, metadata: pd.DataFrame
) -> None:
    write_parquet(metadata, tmp_path / "m.parquet", SAMPLING)
    found, expected = images_of(read_parquet(tmp_path / "m.parquet", COMPARED)), images_of(metadata)
    names = [tuple(row) for row in found.strata.to_numpy()]
    assert [names[s] for s in found.stratum] == [
        tuple(expected.strata.iloc[s]) for s in expected.stratum
    ]
    for name in ("key", "representative", "given_split"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for is_wanted in (np.ones(50, bool), np.zeros(50, bool), np.arange(50) % 3 == 0):
        rows = read_parquet(tmp_path / "m.parquet", COPIED, is_wanted)
        wanted = metadata.loc[is_wanted, COPIED]
        assert rows.to_numpy().tolist() == wanted.to_numpy().tolist()


def test_rows_of_each_code() -> None:
    rows = rows_of_each(np.array([2, 0, 2, 4]), 6)
    assert [part.tolist() for part in rows] == [[1], [], [0, 2], [], [3], []]


def test_a_file_that_is_missing_damaged_or_another_is_named(
    tmp_path: Path, metadata: pd.DataFrame
) -> None:
    path = tmp_path / "metadata.parquet"
    with pytest.raises(InputError, match=r"metadata\.parquet: no such file; run the stage"):
        read_parquet(path, COMPARED)
    write_parquet(metadata, path, SAMPLING)
    for content in (path.read_bytes()[:-100], b"image_id,method\n", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"metadata\.parquet: damaged, or no Parquet file"):
            read_parquet(path, COMPARED)
    write_parquet(metadata, path, {name: SAMPLING[name] for name in COPIED})
    with pytest.raises(InputError, match=r"metadata\.parquet: column missing: given_split"):
        read_parquet(path, COMPARED)


def test_the_same_table_is_the_same_bytes(tmp_path: Path, metadata: pd.DataFrame) -> None:
    paths = tmp_path / "one", tmp_path / "other"
    write_parquet(metadata, paths[0], SAMPLING)
    # Strings in other pieces of memory, as they come from a CSV.
    write_parquet(pd.concat([metadata[:11], metadata[11:]]), paths[1], SAMPLING)
    assert paths[0].read_bytes() == paths[1].read_bytes()
