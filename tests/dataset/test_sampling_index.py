"""Tests of src/dataset/sampling_index.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from src.core.cli import InputError
from src.dataset import sampling_index
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling_index import GIVEN, Kind, coded, read_coded, read_rows, write_catalogue
from tests.helpers.make_metadata import make_metadata

ROWS = [column for column in SPLIT_TABLE if column != "split"]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.setattr(sampling_index, "_PIECE", 7)
    table = make_metadata(images_per_method=10).sample(frac=1, random_state=0)
    table["offset"] = range(len(table))
    table["category"] = ["b", "", "é, ü", "a", "b"] * 10
    table["group"] = table["image_id"].iloc[np.arange(50) // 3 * 3].to_numpy()
    return table


def test_what_is_read_is_what_was_written(tmp_path: Path, metadata: pd.DataFrame) -> None:
    path = tmp_path / "metadata.arrow"
    write_catalogue(metadata, path)
    in_order = metadata.sort_values(list(Kind._fields), kind="stable", ignore_index=True)
    found, expected = read_coded(path), coded(in_order)
    assert list(found.kinds.items()) == list(expected.kinds.items())
    for name in ("key", "to_representative", "given_split"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for is_wanted in (np.ones(50, bool), np.zeros(50, bool), np.arange(50) % 3 == 0):
        wanted = in_order.loc[is_wanted, ROWS].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_rows(path, is_wanted), wanted, check_dtype=False)


def test_kinds_are_in_order_and_given_splits_are_numbers(metadata: pd.DataFrame) -> None:
    metadata["given_split"] = [*GIVEN, ""] * 10
    images = coded(metadata)
    assert list(images.kinds) == sorted(images.kinds)
    assert {kind.category for kind in images.kinds} == {"", "a", "b", "é, ü"}
    assert images.given_split.tolist() == [0, 1, 2, 3, 0] * 10
    assert coded(images) is images


def test_a_place_beyond_two_gigabytes_is_read_as_it_was(
    tmp_path: Path, metadata: pd.DataFrame
) -> None:
    metadata["offset"] = 2**33 + np.arange(50)
    write_catalogue(metadata, tmp_path / "metadata.arrow")
    found = read_rows(tmp_path / "metadata.arrow", np.ones(50, bool))
    assert sorted(found["offset"]) == metadata["offset"].tolist()


def test_a_group_counts_as_its_real_image_or_else_as_the_one_of_the_least_key(
    metadata: pd.DataFrame,
) -> None:
    metadata = metadata.reset_index(drop=True)
    counts_as = np.arange(50) + coded(metadata).to_representative
    for _, group in metadata.groupby("group"):
        expected = group.sort_values(["label", "key"]).index[0]
        assert (counts_as[group.index] == expected).all()


def test_the_same_table_is_the_same_bytes(tmp_path: Path, metadata: pd.DataFrame) -> None:
    paths = tmp_path / "one", tmp_path / "other"
    write_catalogue(metadata, paths[0])
    # Strings in other pieces of memory, as they come from a CSV.
    write_catalogue(pd.concat([metadata[:11], metadata[11:]]), paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_that_is_missing_damaged_or_of_another_kind_is_named(
    tmp_path: Path, metadata: pd.DataFrame
) -> None:
    path = tmp_path / "metadata.arrow"
    with pytest.raises(InputError, match=r"metadata\.arrow: no such file; run the metadata stage"):
        read_coded(path)
    write_catalogue(metadata, path)
    cut = path.read_bytes()[:-100]
    other_columns = pa.BufferOutputStream()
    with pa.ipc.new_file(other_columns, pa.schema({"a": pa.int64()})):
        pass
    with pa.OSFile(str(path)) as file:
        schema = pa.ipc.open_file(file).schema
    no_kinds = pa.BufferOutputStream()
    with pa.ipc.new_file(no_kinds, schema.remove_metadata()):
        pass
    others = [stream.getvalue().to_pybytes() for stream in (other_columns, no_kinds)]
    for content in (cut, b"image_id,method\n", *others):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"metadata\.arrow: damaged, or not .*metadata stage"):
            read_coded(path)
