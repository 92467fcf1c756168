import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.evaluation import pictures
from src.evaluation.results import slices
from src.evaluation.slices import (
    count_slices,
    holm,
    size_rates,
    slice_table,
    with_parts,
    worse_than_rest,
)
from tests.evaluation.test_results import PARAMS
from tests.helpers.make_predictions import make_measures, make_predictions, scored


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    return scored(make_predictions(images_per_method=60, seed=0))


@pytest.fixture(scope="module")
def test_part(predictions: pd.DataFrame) -> pd.DataFrame:
    parted = with_parts(predictions, make_measures(predictions))
    return parted[parted["split"] == "test"]


def test_parts_hold_equally_many_images_of_validation(predictions: pd.DataFrame) -> None:
    parted = with_parts(predictions, make_measures(predictions))
    validation = parted[parted["split"] == "val"]

    assert validation["sharpness_part"].value_counts().tolist() == [120, 120, 120]
    assert parted["sharpness_part"].nunique() == 3
    # Two qualities have one end between them, one size has one value.
    assert set(parted["jpeg_quality_part"]) == {"up to 75", "75 to 90"} or set(
        parted["jpeg_quality_part"]
    ) == {"up to 75", "above 75"}
    assert set(parted["size_part"]) == {"128 to 255 px"}


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (1, 9000, "below 128 px"),
        (127, 128, "below 128 px"),
        (128, 128, "128 to 255 px"),
        (600, 255, "128 to 255 px"),
        (1023, 4000, "512 to 1023 px"),
        (1024, 1024, "1024 px or more"),
    ],
)
def test_sizes_have_fixed_parts_by_the_shorter_side(
    predictions: pd.DataFrame, width: int, height: int, name: str
) -> None:
    measures = make_measures(predictions).assign(width=width, height=height)
    assert set(with_parts(predictions, measures)["size_part"]) == {name}


def test_each_size_has_its_rate_of_each_class(predictions: pd.DataFrame) -> None:
    measures = make_measures(predictions)
    measures["width"] = np.arange(len(measures)) % 2 * 2000 + 100
    measures["height"] = 2100
    parted = with_parts(predictions, measures)
    rows = size_rates(parted, 0.5, PARAMS)
    named = [(row["size"], row["label"]) for row in rows]
    sizes = ("below 128 px", "1024 px or more")
    assert named == [(size, label) for size in sizes for label in ("real", "fake")]
    fakes = parted[(parted["size_part"] == sizes[1]) & (parted["label"] == 1)]
    assert rows[3]["images"] == len(fakes)
    assert rows[3]["correct"] == pytest.approx((fakes["score"] >= 0.5).mean())


def test_the_ends_do_not_depend_on_test(predictions: pd.DataFrame) -> None:
    measures = make_measures(predictions)
    is_test = (predictions["split"] == "test").to_numpy()
    moved = measures.assign(sharpness=np.where(is_test, 1e6, measures["sharpness"]))
    there, back = (with_parts(predictions, table)["sharpness_part"] for table in (measures, moved))

    assert there[~is_test].equals(back[~is_test])
    assert set(back[is_test]) == {max(set(there), key=lambda text: text.startswith("above"))}


def test_an_image_without_metadata_is_named(predictions: pd.DataFrame) -> None:
    measures = make_measures(predictions)

    with pytest.raises(InputError, match=r"coco/val00\.jpg is in the predictions but not in the"):
        with_parts(predictions, measures.iloc[1:])


def test_a_slice_that_is_worse_comes_first_with_its_rates(test_part: pd.DataFrame) -> None:
    table = slice_table(test_part, 0.5, PARAMS)

    # Brightness is made of the logit, and `lama`, the one fake of its family, is the hardest.
    assert {"family", "method", "brightness"} == set(table["by"].head(4))
    lama = table.set_index("name").loc["lama, fake"]
    fakes = test_part[test_part["label"] == 1]
    right = (fakes["score"] >= 0.5).groupby(fakes["method"] == "lama").mean()
    assert lama["correct"] == pytest.approx(right[True])
    assert lama["difference"] == pytest.approx(right[True] - right[False])
    assert lama["p_adjusted"] < 0.05
    assert table["p"].is_monotonic_increasing
    assert "family real, real" not in set(table["name"])  # all reals: nothing to compare with
    assert not table["by"].isin(["size", "category"]).any()


def test_rates_are_those_of_the_slices(test_part: pd.DataFrame) -> None:
    table = slice_table(test_part, 0.5, PARAMS)
    table = table[table["by"] == "sharpness"].set_index(["value", "label"])
    expected = slices(test_part, ["sharpness_part"], 0.5, PARAMS).set_index(
        ["sharpness_part", "label"]
    )

    for column in ("images", "groups", "correct", "correct_low", "correct_high"):
        np.testing.assert_allclose(table[column], expected.loc[table.index, column])


@pytest.mark.parametrize(("groups", "size", "inside"), [(40, 4, 10), (40, 4, 3), (200, 2, 100)])
def test_equal_rates_are_seldom_called_worse(groups: int, size: int, inside: int) -> None:
    generator, trials, alarms = np.random.default_rng(0), 1000, 0
    names = np.arange(groups).repeat(size)
    for _ in range(trials):
        fates = generator.random((groups, 1)) < 0.7
        alone = generator.random((groups, size)) < 0.7
        correct = np.where(generator.random((groups, size)) < 0.5, fates, alone).ravel()
        alarms += worse_than_rest(correct, names < inside, names)["p"] < 0.05

    assert alarms / trials <= 0.065


def test_a_clear_difference_is_found_even_where_groups_lie_on_both_sides() -> None:
    generator = np.random.default_rng(0)
    names = np.arange(50).repeat(4)
    inside = generator.random(200) < 0.4
    correct = generator.random(200) < np.where(inside, 0.4, 0.9)

    assert worse_than_rest(correct, inside, names)["p"] < 1e-3
    assert worse_than_rest(correct, ~inside, names)["p"] > 0.99


def test_without_a_rest_to_compare_with_there_is_no_slice(test_part: pd.DataFrame) -> None:
    first = test_part.groupby("label").head(1)
    table = slice_table(first, 0.5, PARAMS)

    assert table.empty
    assert list(table) == list(slice_table(test_part, 0.5, PARAMS))
    assert count_slices(table, 0.05) == {"tested": 0, "worse_than_rest": 0}
    pictures.forest(table)


def test_a_single_group_is_not_compared() -> None:
    found = worse_than_rest(np.array([False, True, True]), np.array([1, 0, 0]) > 0, np.arange(3))

    assert np.isnan(found["p"])
    assert found["difference"] == -1


def test_holm_by_hand() -> None:
    # 3 x .01; 2 x .02, not below it; 1 x .5; what cannot be compared is not counted.
    adjusted = holm(np.array([0.5, np.nan, 0.01, 0.02]))

    np.testing.assert_allclose(adjusted, [0.5, np.nan, 0.03, 0.04])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]


def test_slices_are_counted() -> None:
    table = pd.DataFrame({"p": [0.001, 0.2, np.nan], "p_adjusted": [0.002, 0.2, np.nan]})

    assert count_slices(table, 0.05) == {"tested": 2, "worse_than_rest": 1}
