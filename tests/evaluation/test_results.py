import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from src.core.cli import InputError
from src.evaluation.results import (
    CURVE_POINTS,
    EvaluateParams,
    check_predictions,
    compute_results,
    slices,
)
from tests.helpers.make_predictions import make_predictions, scored

PARAMS = EvaluateParams(
    bootstrap_rounds=100,
    confidence=0.95,
    calibration_bins=10,
    min_groups=20,
    worst_images=6,
    seed=0,
)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    return scored(make_predictions(images_per_method=60, seed=0))


@pytest.fixture(scope="module")
def test_part(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[predictions["split"] == "test"]


def test_every_figure_lies_in_its_interval(test_part: pd.DataFrame) -> None:
    figures = compute_results(test_part, 0.5, PARAMS).metrics

    for name, (value, low, high) in figures.items():
        assert low < value < high, name


def test_the_order_of_the_rows_does_not_matter(test_part: pd.DataFrame) -> None:
    there = compute_results(test_part, 0.5, PARAMS)
    back = compute_results(test_part.iloc[::-1], 0.5, PARAMS)

    assert there.metrics == back.metrics
    pd.testing.assert_frame_equal(there.methods, back.methods)


def test_methods_are_judged_apart_and_the_worst_fake_comes_first(
    test_part: pd.DataFrame,
) -> None:
    methods = compute_results(test_part, 0.5, PARAMS).methods

    assert list(methods["label"]) == ["fake"] * 3 + ["real"] * 3
    assert methods.loc[:2, "correct"].is_monotonic_increasing
    assert methods.loc[0, "method"] == "lama"  # made the hardest
    both = methods[methods["method"] == "cycle_gan"]
    assert list(both["label"]) == ["fake", "real"]
    for row in methods.to_dict("records"):
        label = int(row["label"] == "fake")
        rows = test_part[(test_part["method"] == row["method"]) & (test_part["label"] == label)]
        assert row["images"] == len(rows)
        assert row["groups"] == rows["group"].nunique()
        assert row["correct"] == pytest.approx(((rows["score"] >= 0.5) == label).mean())
        assert row["correct_low"] < row["correct"] < row["correct_high"]
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_slices_with_few_groups_are_marked(test_part: pd.DataFrame) -> None:
    one_method = test_part["method"] == "lama"
    few = pd.concat([test_part[~one_method], test_part[one_method].head(5)])
    table = slices(few, ["method"], 0.5, PARAMS).set_index(["method", "label"])

    assert table.loc[("lama", "fake"), "few"]
    assert table["few"].sum() == 1


def test_the_curve_is_thin_and_the_average_precision_is_not() -> None:
    generator = np.random.default_rng(0)
    label = np.arange(6000) % 2
    logit = generator.normal(label * 2 - 1)
    test = pd.DataFrame({"image_id": range(6000), "label": label, "logit": logit})
    test = scored(test.assign(method="m", family="gan", group=range(6000)))
    results = compute_results(test, 0.5, PARAMS)

    assert len(results.pr) == CURVE_POINTS
    assert results.pr["recall"].iloc[[0, -1]].tolist() == [0, 1]
    area = np.mean(results.pr["precision"])
    assert results.metrics["ap"][0] == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("logit", [float("inf"), float("nan")])
def test_logits_are_numbers(predictions: pd.DataFrame, logit: float) -> None:
    table = predictions.copy()
    table.loc[3, "logit"] = logit

    with pytest.raises(
        InputError, match=rf"the logit of .* is {logit:g}, expected a number between"
    ):
        check_predictions(table)


@pytest.mark.parametrize(("label", "name"), [(0, "real"), (1, "fake")])
def test_both_classes_are_needed(predictions: pd.DataFrame, label: int, name: str) -> None:
    gone = (predictions["split"] == "test") & (predictions["label"] == label)

    with pytest.raises(InputError, match=f"split 'test' of the predictions: no {name} image"):
        check_predictions(predictions[~gone])


def test_what_the_detector_said_before_calibration_is_judged_too(test_part: pd.DataFrame) -> None:
    hesitant = test_part.assign(logit=test_part["logit"] / 10)
    there, back = (compute_results(table, 0.5, PARAMS).metrics for table in (test_part, hesitant))

    # `score` is the same in both, so all that is said of it is.
    assert {name: there[name] for name in there if not name.endswith("_before")} == {
        name: back[name] for name in back if not name.endswith("_before")
    }
    for name in ("brier_error", "calibration_error"):
        assert there[f"{name}_before"] == pytest.approx(there[name])
        assert back[f"{name}_before"][0] > back[name][0]


def test_brier_is_scikit_learns(test_part: pd.DataFrame) -> None:
    figures = compute_results(test_part, 0.5, PARAMS).metrics

    assert figures["brier_error"][0] == pytest.approx(
        sklearn.metrics.brier_score_loss(test_part["label"], test_part["score"])
    )
