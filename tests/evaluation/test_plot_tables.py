import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from src.evaluation import plot_tables
from src.evaluation.ranking import Confusion
from src.evaluation.results import CURVE_POINTS, compute_results
from tests.evaluation.test_results import PARAMS
from tests.helpers.make_predictions import make_predictions, scored


@pytest.fixture(scope="module")
def test_part() -> pd.DataFrame:
    predictions = scored(make_predictions(images_per_method=60, seed=0))
    return predictions[predictions["split"] == "test"]


def test_the_roc_curve_encloses_the_auroc(test_part: pd.DataFrame) -> None:
    roc = plot_tables.roc_table(test_part)

    area = np.trapezoid(roc["recall"].to_numpy(), roc["false_positive_rate"].to_numpy())
    assert area == pytest.approx(
        sklearn.metrics.roc_auc_score(test_part["label"], test_part["score"])
    )
    for rate in ("false_positive_rate", "recall"):
        assert roc[rate].iloc[[0, -1]].tolist() == [0, 1]


def test_a_long_roc_curve_is_thinned() -> None:
    generator = np.random.default_rng(0)
    test = pd.DataFrame({"label": np.arange(5000) % 2, "score": generator.random(5000)})

    assert len(plot_tables.roc_table(test)) == CURVE_POINTS


def test_confusion_has_a_row_per_outcome() -> None:
    table = plot_tables.confusion_table(Confusion(30.0, 5.0, 10.0, 15.0))

    assert table.to_numpy().tolist() == [
        ["real", "real", 15, 0.75],
        ["real", "fake", 5, 0.25],
        ["fake", "real", 10, 0.25],
        ["fake", "fake", 30, 0.75],
    ]


def test_reliability_counts_every_image_once(test_part: pd.DataFrame) -> None:
    table = plot_tables.reliability_table(test_part, bins=10, confidence=0.95)

    assert table["images"].sum() == len(test_part)
    assert table["score"].is_monotonic_increasing
    assert np.average(table["fake_share"], weights=table["images"]) == pytest.approx(0.5)
    assert (table["fake_share_low"] <= table["fake_share"]).all()
    assert (table["fake_share"] <= table["fake_share_high"]).all()


def test_histograms_share_out_each_class(test_part: pd.DataFrame) -> None:
    table = plot_tables.scores_table(test_part)

    assert table.groupby("label")["share"].sum().tolist() == pytest.approx([1, 1])
    assert table.groupby("label")["images"].sum().tolist() == [180, 180]


def test_names_tell_the_classes_of_a_method_apart(test_part: pd.DataFrame) -> None:
    table = plot_tables.methods_table(compute_results(test_part, 0.5, PARAMS))

    assert table["name"].is_unique
    assert {"cycle_gan", "cycle_gan (real)", "coco (real)", "lama"} <= set(table["name"])


def test_the_worst_errors_are_the_most_confident_ones(test_part: pd.DataFrame) -> None:
    table = plot_tables.worst_errors(test_part, threshold=0.5, count=4)

    assert table["error"].tolist() == ["false positive"] * 4 + ["false negative"] * 4
    positives, negatives = table.iloc[:4], table.iloc[4:]
    assert (positives["label"] == 0).all()
    assert positives["score"].iloc[0] == test_part.loc[test_part["label"] == 0, "score"].max()
    assert positives["score"].is_monotonic_decreasing
    assert (negatives["label"] == 1).all()
    assert negatives["score"].iloc[0] == test_part.loc[test_part["label"] == 1, "score"].min()
    assert negatives["score"].is_monotonic_increasing
