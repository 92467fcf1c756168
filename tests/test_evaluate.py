import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from PIL import Image
from scipy.special import expit

from src import evaluate
from src.core.tables import read_table, write_table
from src.evaluation.errors import error_columns
from src.inference.predictions import PREDICTIONS
from tests.conftest import ROOT
from tests.helpers.make_predictions import CALIBRATION, make_predictions, write_evaluation_inputs

ARGUMENTS = [
    "data/predictions.csv",
    "data/metadata.csv",
    "models/calibration.json",
    "metrics/evaluate.json",
    "metrics/headline.json",
    "plots/evaluate",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with predictions, and the process in it."""
    write_evaluation_inputs(tmp_path, make_predictions(images_per_method=40, seed=0))
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        text.replace("bootstrap_rounds: 1000", "bootstrap_rounds: 50")
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(folder: Path) -> dict[str, bytes]:
    files = [path for top in ("metrics", "plots") for path in (folder / top).rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def test_metrics_are_those_of_calibrated_test_images_at_the_frozen_threshold(
    folder: Path,
) -> None:
    evaluate.main(ARGUMENTS)

    document = json.loads((folder / "metrics/evaluate.json").read_text())
    predictions = pd.read_csv(folder / "data/predictions.csv")
    test = predictions[predictions["split"] == "test"]
    score = CALIBRATION.probability(test["logit"].to_numpy())
    verdicts = score >= CALIBRATION.threshold
    assert document["threshold"] == CALIBRATION.threshold
    expected = {
        "mcc": sklearn.metrics.matthews_corrcoef(test["label"], verdicts),
        "auroc": sklearn.metrics.roc_auc_score(test["label"], score),
        "ap": sklearn.metrics.average_precision_score(test["label"], score),
        "brier_error": sklearn.metrics.brier_score_loss(test["label"], score),
        "brier_error_before": sklearn.metrics.brier_score_loss(test["label"], expit(test["logit"])),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(test["label"], verdicts),
    }
    for name, value in expected.items():
        assert document["test"][name] == pytest.approx(value, rel=1e-5), name
    assert sum(document["confusion"].values()) == len(test)
    far = (test["distance"] > CALIBRATION.ood_distance).mean()
    assert document["ood_share"] == pytest.approx(far)
    assert set(document["recall"]) == {"cycle_gan", "lama", "stylegan2"}
    assert set(document["specificity"]) == {"cycle_gan", "coco", "ffhq"}
    for name in ("mcc", "ap", "auroc", "balanced_accuracy", "calibration_error", "brier_error"):
        value, low, high = (document["test"][name + end] for end in ("", "_low", "_high"))
        assert low < value < high


def test_the_worst_errors_are_rows_of_the_predictions(folder: Path) -> None:
    evaluate.main(ARGUMENTS)

    errors = read_table(folder / "plots/evaluate/errors.csv", error_columns(PREDICTIONS)).set_index(
        "image_id"
    )
    predictions = read_table(folder / "data/predictions.csv", PREDICTIONS).set_index("image_id")
    assert len(errors) > 0
    for column in ("split", "label", "method", "group"):
        assert errors[column].equals(predictions.loc[errors.index, column]), column
    for column in ("logit", "distance"):
        np.testing.assert_allclose(errors[column], predictions.loc[errors.index, column], rtol=1e-5)


def test_a_second_run_writes_the_same_bytes(folder: Path) -> None:
    evaluate.main(ARGUMENTS)
    first = outputs(folder)
    evaluate.main(ARGUMENTS)

    assert outputs(folder) == first
    assert {Path(name).name for name in first} == {
        "evaluate.json",
        "headline.json",
        "overview.png",
        "slices.png",
        *(f"{table}.csv" for table in ("metrics", "pr", "roc", "confusion", "reliability")),
        *(
            f"{table}.csv"
            for table in ("scores", "methods", "errors", "reliability_before", "slices")
        ),
    }
    assert all(b"\r" not in data for name, data in first.items() if name.endswith(".csv"))


def test_pictures_hold_no_date_and_no_version(folder: Path) -> None:
    evaluate.main(ARGUMENTS)

    for path in (folder / "plots").rglob("*.png"):
        with Image.open(path) as picture:
            assert set(picture.info) <= {"dpi"}
            assert np.asarray(picture).std() > 0


def test_a_detector_without_errors_is_drawn_too(folder: Path) -> None:
    predictions = make_predictions(images_per_method=40, seed=0)
    predictions["logit"] = predictions["label"] * 4.0 - 2
    write_table(predictions, folder / "data/predictions.csv", PREDICTIONS)
    evaluate.main(ARGUMENTS)

    assert json.loads((folder / "metrics/evaluate.json").read_text())["test"]["mcc"] == 1
    assert len(read_table(folder / "plots/evaluate/errors.csv", error_columns(PREDICTIONS))) == 0


@pytest.mark.parametrize(
    "name", ["$x_{", "a\\$b", "_", "写真 é", "\U0001f600", "a\tb\nc", "*" * 200]
)
def test_any_name_of_a_method_and_a_category_is_drawn(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    predictions = make_predictions(images_per_method=40, seed=0)
    predictions["method"] = predictions["method"].replace({"glide": name})
    predictions["category"] = name
    write_table(predictions, folder / "data/predictions.csv", PREDICTIONS)
    evaluate.main(ARGUMENTS)

    lacks = [record for record in caplog.records if "no font here has" in record.message]
    assert len(lacks) <= 2  # one for each picture, whatever it lacks
    assert all(path.stat().st_size for path in (folder / "plots").rglob("*.png"))


def test_nobodys_matplotlibrc_changes_a_picture(folder: Path) -> None:
    evaluate.main(ARGUMENTS)
    first = outputs(folder)
    changes = {"savefig.dpi": 50, "font.size": 20, "font.family": ["serif"], "axes.grid": True}
    with mpl.rc_context(changes):  # type: ignore[arg-type]
        evaluate.main(ARGUMENTS)
    assert outputs(folder) == first


def test_experiments_are_compared_by_few_numbers_the_most_telling_first(folder: Path) -> None:
    evaluate.main(ARGUMENTS)
    headline = json.loads((folder / "metrics/headline.json").read_text())
    document = json.loads((folder / "metrics/evaluate.json").read_text())
    assert list(headline)[:4] == ["mcc", "mcc_low", "mcc_high", "auroc"]
    assert len(headline) <= 20
    assert all(isinstance(value, float) for value in headline.values())
    assert headline["mcc"] == document["test"]["mcc"]
    assert headline["lowest_recall"] == min(document["recall"].values())
