"""Tests of src/split.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src import split
from src.core.cli import InputError
from src.core.files import read_json
from src.core.hashing import image_keys
from src.core.tables import FAKE, REAL, read_table, write_parquet
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import SAMPLING, representative_keys
from src.splitting.assignment import SplitParams
from tests.helpers.splitting import assigned, balanced_split, drawn, metrics_of, split_table

# method -> label, {category: images}
SOURCES = {
    "ffhq": (REAL, {"face": 90}),
    "lsun": (REAL, {"cat": 40, "room": 50, "face": 3}),
    "imagenet": (REAL, {"object": 60}),
    "stylegan": (FAKE, {"face": 70, "cat": 30}),
    "glide": (FAKE, {"face": 25, "room": 45, "logo": 12}),
    "lama": (FAKE, {"face": 12}),
}


def make_metadata(
    sources: dict[str, tuple[int, dict[str, int]]] = SOURCES, group_size: int = 1
) -> pd.DataFrame:
    rows = [
        (
            f"{method}/{category}{i}",
            method,
            category,
            label,
            f"{method}/{category}{i // group_size}",
        )
        for method, (label, counts) in sources.items()
        for category, count in counts.items()
        for i in range(count)
    ]
    table = pd.DataFrame(rows, columns=["image_id", "method", "category", "label", "group"])
    table["family"] = np.where(table["label"] == REAL, "real", "gan")
    table["key"] = image_keys(table["image_id"])
    return table.assign(shard="s.tar", offset=0, length=1, given_split="")


def split_params(**changes: Any) -> SplitParams:
    values = {
        "images_per_class": None,
        "test_fraction": 0.2,
        "val_fraction": 0.1,
        "fold": 0,
        "match_categories": True,
        "honour_given_split": False,
        "holdout_methods": (),
        "seed": 0,
    }
    return SplitParams(**values | changes)


METADATA_ALL = make_metadata()
SEEDS = st.integers(0, 2**64 - 1)
few = settings(max_examples=20)


def random_metadata(seed: int) -> pd.DataFrame:
    """Methods of both classes with random categories, and groups across methods and classes."""
    rng = np.random.default_rng(seed)
    sources = {
        f"{'rf'[label]}{i}": (
            label,
            {c: int(rng.integers(1, 40)) for c in "abc"[: rng.integers(1, 4)]},
        )
        for label in (REAL, FAKE)
        for i in range(rng.integers(1, 5))
    }
    table = make_metadata(sources)
    names = table["image_id"].to_numpy()
    return table.assign(group=np.where(rng.random(len(table)) < 0.2, rng.permutation(names), names))


@few
@given(seed=SEEDS)
def test_classes_and_their_categories_are_equal_in_every_split(seed: int) -> None:
    taken = balanced_split(METADATA_ALL, split_params(seed=seed))
    counts = taken.groupby(["split", "category", "label"]).size().unstack()
    assert (counts[REAL] == counts[FAKE]).all()
    assert set(taken["category"]) == {"face", "cat", "room"}


@few
@given(seed=SEEDS, n=st.integers(20, 100))
def test_the_number_wanted_is_drawn(seed: int, n: int) -> None:
    taken = balanced_split(METADATA_ALL, split_params(seed=seed, images_per_class=n))
    assert taken.groupby("label").size().to_dict() == {REAL: n, FAKE: n}
    share = taken["split"].value_counts() / len(taken)
    assert share["test"] == pytest.approx(0.2, abs=1 / n)
    assert share["val"] == pytest.approx(0.1, abs=1 / n)


@few
@given(seed=SEEDS)
def test_methods_are_equal_where_the_data_allow(seed: int) -> None:
    params = split_params(seed=seed, images_per_class=60, match_categories=False)
    counts = balanced_split(METADATA_ALL, params).groupby(["split", "label", "method"]).size()
    reals = counts.xs(REAL, level="label").unstack()
    assert (reals.max(axis=1) - reals.min(axis=1) <= 1).all()
    fakes = counts.xs(FAKE, level="label").unstack(fill_value=0)
    assert ((fakes["stylegan"] - fakes["glide"]).abs() <= 1).all()
    assert fakes["lama"].sum() == 12  # all there are


@few
@given(seed=st.integers(0, 2**32), match=st.booleans(), fold=st.integers(0, 4))
def test_no_group_crosses(seed: int, match: bool, fold: int) -> None:
    table = random_metadata(seed)
    params = split_params(seed=seed, match_categories=match, fold=fold)
    by_split = table.assign(split=assigned(table, params))
    assert (by_split.groupby("group")["split"].nunique() == 1).all()
    try:
        split = drawn(table, params)
    except InputError:
        return  # too few images of a class in a split
    assert metrics_of(table, split)["leaked_groups"] == 0
    counts = split_table(table, split).groupby(["split", "label"]).size().unstack()
    assert (counts[REAL] == counts[FAKE]).all()


@few
@given(seed=st.integers(0, 2**32), order=st.integers(0, 2**32 - 1))
def test_row_order_does_not_matter(seed: int, order: int) -> None:
    table = random_metadata(seed)
    shuffled = table.sample(frac=1, random_state=order, ignore_index=True)
    params = split_params(seed=seed)
    one = pd.Series(assigned(table, params), table["image_id"]).sort_index()
    other = pd.Series(assigned(shuffled, params), shuffled["image_id"]).sort_index()
    pd.testing.assert_series_equal(one, other)
    shuffled = METADATA_ALL.sample(frac=1, random_state=order)
    pd.testing.assert_frame_equal(
        balanced_split(METADATA_ALL, params), balanced_split(shuffled, params)
    )


@few
@given(seed=SEEDS, n=st.integers(15, 90), more=st.integers(0, 15), match=st.booleans())
def test_a_larger_draw_contains_the_smaller(seed: int, n: int, more: int, match: bool) -> None:
    small, large = (
        balanced_split(
            METADATA_ALL, split_params(seed=seed, images_per_class=size, match_categories=match)
        )
        for size in (n, n + more)
    )
    columns = ["image_id", "split"]
    assert len(small.merge(large, on=columns)) == len(small)


@few
@given(seed=st.integers(0, 2**32), folds=st.integers(2, 10))
def test_every_image_is_in_the_test_set_of_exactly_one_fold(seed: int, folds: int) -> None:
    table = random_metadata(seed)
    in_test = sum(
        assigned(
            table, split_params(seed=seed, test_fraction=1 / folds, val_fraction=0.05, fold=fold)
        )
        == "test"
        for fold in range(folds)
    )
    np.testing.assert_array_equal(in_test, 1)


def test_splits_of_every_stratum_have_their_share() -> None:
    table = make_metadata({"a": (REAL, {"x": 1000, "y": 40}), "b": (FAKE, {"x": 500})})
    table["split"] = assigned(table, split_params())
    counts = table.groupby(["method", "category", "split"]).size().unstack()
    expected = np.outer([1000, 40, 500], [0.2, 0.7, 0.1])
    counts = counts[["test", "train", "val"]]
    assert np.abs(counts.to_numpy() - expected).max() <= 1


def test_small_strata_are_not_all_in_one_fold() -> None:
    table = make_metadata({"a": (REAL, {f"c{i}": 1 for i in range(500)})})
    for fold in range(5):
        in_test = assigned(table, split_params(fold=fold)) == "test"
        assert 60 < in_test.sum() < 140


def test_a_derived_fake_follows_its_photograph() -> None:
    table = make_metadata({"photos": (REAL, {"x": 50}), "upscaled": (FAKE, {"x": 50})})
    table["group"] = [f"photos/x{i}" for i in range(50)] * 2
    taken = balanced_split(table, split_params())
    assert taken.groupby("split").size().to_dict() == {"test": 20, "train": 70, "val": 10}
    assert (taken.groupby("group").size() == 2).all()


def test_the_most_that_balance_allows() -> None:
    table = make_metadata({"photos": (REAL, {"x": 1000}), "gan": (FAKE, {"x": 300})})
    taken = balanced_split(table, split_params())
    assert taken.groupby("split").size().to_dict() == pytest.approx(
        {"test": 120, "train": 420, "val": 60}, abs=4
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images_per_class": 500},
            r"split.images_per_class = 500: train needs 350 images of each class and has 1\d\d "
            r".*fake lama \d.*\); set it to at most 1\d\d, download more",
        ),
        ({"fold": 5}, r"split.fold = 5: .* folds 0 to 4"),
        ({"test_fraction": 0.9}, r"must be below 1"),
    ],
)
def test_what_cannot_be_met_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        balanced_split(METADATA_ALL, split_params(**changes))


def test_an_empty_class_is_named() -> None:
    with pytest.raises(InputError, match="there is no fake image"):
        balanced_split(METADATA_ALL[METADATA_ALL["label"] == REAL], split_params())


def test_classes_without_a_common_category() -> None:
    table = make_metadata({"a": (REAL, {"object": 50}), "b": (FAKE, {"face": 50})})
    with pytest.raises(InputError, match=r"real has \['object'\], fake has \['face'\]"):
        balanced_split(table, split_params())
    assert len(balanced_split(table, split_params(match_categories=False))) == 100


@pytest.mark.parametrize(("real", "fake"), [(2, 2), (3, 2), (1, 50)])
def test_too_few_images_for_every_split(real: int, fake: int) -> None:
    table = make_metadata({"a": (REAL, {"x": real}), "b": (FAKE, {"x": fake})})
    for images_per_class in (None, 1, 100):
        params = split_params(images_per_class=images_per_class)
        message = r"too few images: .* train \d, val \d, test \d, and it takes \d of each class"
        with pytest.raises(InputError, match=message) as error:
            balanced_split(table, params)
        assert "set it to" not in str(error.value)  # no number of images helps


@pytest.mark.parametrize("honoured", [True, False])
def test_a_given_split_without_one_class_is_named_as_the_cause(honoured: bool) -> None:
    table = make_metadata({"a": (REAL, {"x": 40}), "b": (FAKE, {"x": 4})})
    table["given_split"] = np.where(table["label"] == REAL, "val", "train")
    with pytest.raises(InputError, match=r"val \d+.*download more") as error:
        balanced_split(table, split_params(honour_given_split=honoured))
    assert ("split.honour_given_split: false" in str(error.value)) == honoured


def smallest(**changes: Any) -> int:
    """The smallest number of images that gives every split one, found by asking for each."""
    for number in range(1, 200):
        try:
            balanced_split(METADATA_ALL, split_params(images_per_class=number, **changes))
        except InputError:
            continue
        return number
    raise AssertionError


@pytest.mark.parametrize(
    ("fractions", "split"), [((0.1, 0.2), "val"), ((0.2, 0.05), "test"), ((0.45, 0.45), "train")]
)
def test_a_share_that_rounds_to_nothing_asks_for_the_fewest_that_do(
    fractions: tuple[float, float], split: str
) -> None:
    changes = dict(zip(("val_fraction", "test_fraction"), fractions, strict=True))
    least = smallest(**changes)
    for number in range(1, least):
        with pytest.raises(InputError, match=f"rounds to 0; set it to {least} to \\d+$"):
            balanced_split(METADATA_ALL, split_params(images_per_class=number, **changes))
    with pytest.raises(InputError, match=f"= {least - 1}: the share of {split} rounds to 0"):
        balanced_split(METADATA_ALL, split_params(images_per_class=least - 1, **changes))


def test_a_share_that_rounds_to_nothing_of_all_there_is() -> None:
    table = make_metadata({"a": (REAL, {"x": 30}), "b": (FAKE, {"x": 30})})
    params = split_params(val_fraction=0.01, test_fraction=0.5, images_per_class=None)
    place = table.assign(given_split=["val", "test", "train"] * 20)
    with pytest.raises(InputError, match=r"train \d+, val \d+, test \d+, and it takes \d+"):
        balanced_split(place, replace(params, honour_given_split=True))


def test_stage_writes_the_table_and_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = "images_per_class: 60, test_fraction: 0.2, val_fraction: 0.1, fold: 0"
    rest = "match_categories: true, honour_given_split: false, holdout_methods: [], seed: 1"
    Path("params.yaml").write_text(f"split: {{{numbers}, {rest}}}\n")
    metadata = METADATA_ALL.assign(group_key=representative_keys(METADATA_ALL))
    write_parquet(metadata, Path("metadata.parquet"), SAMPLING)
    split.main(["metadata.parquet", "splits.csv", "metrics.json"])
    table = read_table(Path("splits.csv"), SPLIT_TABLE)
    assert table["image_id"].is_monotonic_increasing
    metrics = read_json(Path("metrics.json"))
    assert metrics["images_per_class"] == 60
    assert metrics["counts"]["test"]["real"]["images"] == 12
    assert metrics["share"] == {"test": 0.2, "train": 0.7, "val": 0.1}
    assert metrics["imbalance"]["train"]["label"] == 0
    assert metrics["left_out"]["unmatched_categories"] == {
        "logo": {"fake": 12, "real": 0},
        "object": {"fake": 0, "real": 60},
    }
