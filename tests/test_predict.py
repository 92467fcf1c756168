from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate import Accelerator
from pydantic import ValidationError

from src import predict as stage
from src.core.cli import InputError
from src.core.tables import read_table
from src.dataset.columns import SPLIT_TABLE
from src.inference.knn_distance import load_knn_index, ood_distances
from src.inference.predictions import NEIGHBOURS, PREDICTIONS
from src.models.shared.detector import build_detector
from src.predict import PredictParams, draw_knn_images, predict
from src.probes.appearance import appearances
from tests.helpers.make_training import MODEL, write_detector_inputs

PARAMS = PredictParams(
    crops_per_side=2, batch_size=4, threads=1, knn_images=5, knn_neighbours=2, seed=0
)
OUTPUTS = ("predictions.csv", "neighbours.csv", "knn_index.safetensors")
ARGUMENTS = [
    *("--splits", "splits.csv", "--raw", "raw"),
    *("--weights", "detector.safetensors", "--config", "detector.json"),
    *("--predictions", OUTPUTS[0], "--neighbours", OUTPUTS[1], "--knn-index", OUTPUTS[2]),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_detector_inputs(tmp_path, vars(PARAMS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "0")
    return tmp_path


def test_val_and_test_are_scored_twice_the_same(folder: Path) -> None:
    stage.main(ARGUMENTS)
    first = [(folder / name).read_bytes() for name in OUTPUTS]
    stage.main(ARGUMENTS)
    assert [(folder / name).read_bytes() for name in OUTPUTS] == first
    predictions = read_table(folder / "predictions.csv", PREDICTIONS)
    splits = read_table(folder / "splits.csv", SPLIT_TABLE)
    assert list(predictions["image_id"]) == list(splits.loc[splits["split"] != "train", "image_id"])
    assert predictions["logit"].nunique() == len(predictions)


def test_neighbours_are_training_images_and_the_distance_is_of_appearance(folder: Path) -> None:
    stage.main(ARGUMENTS)
    predictions = read_table(folder / "predictions.csv", PREDICTIONS).set_index("image_id")
    neighbours = read_table(folder / "neighbours.csv", NEIGHBOURS)
    splits = read_table(folder / "splits.csv", SPLIT_TABLE).set_index("image_id")
    assert (splits.loc[neighbours["neighbour"], "split"] == "train").all()
    assert neighbours["position"].tolist() == [1, 2] * len(predictions)
    index = load_knn_index(folder / "knn_index.safetensors")
    unseen = splits.loc[predictions.index]
    expected = ood_distances(index, appearances(unseen, folder / "raw", "again"))
    np.testing.assert_allclose(predictions["distance"], expected, rtol=1e-5)
    assert (len(index.features), index.crops_per_side, index.neighbours) == (5, 2, 2)


def test_scores_do_not_depend_on_the_other_images(folder: Path) -> None:
    splits = pd.read_csv(folder / "splits.csv")
    accelerator = Accelerator(cpu=True)
    detector = build_detector(MODEL, ("real", "fake"), 0)
    together = predict(splits, folder / "raw", detector, PARAMS, accelerator).table
    train = splits[splits["split"] == "train"]
    few = pd.concat([train, splits[splits["image_id"].isin(together["image_id"].iloc[[7, 3]])]])
    params = replace(PARAMS, batch_size=1)
    alone = predict(few, folder / "raw", detector, params, accelerator).table
    expected = together.set_index("image_id").loc[alone["image_id"]]
    for column in ("logit", "distance"):
        np.testing.assert_allclose(alone[column], expected[column], atol=1e-5)


def test_a_larger_index_holds_the_smaller_one(folder: Path) -> None:
    splits = pd.read_csv(folder / "splits.csv")
    small = draw_knn_images(splits, PARAMS)
    large = draw_knn_images(splits.iloc[::-1], replace(PARAMS, knn_images=7))
    assert list(large["image_id"][:5]) == list(small["image_id"])
    assert list(draw_knn_images(splits, replace(PARAMS, seed=1))["image_id"]) != list(
        small["image_id"]
    )


def test_a_seed_is_one_that_ranks_can_take(folder: Path) -> None:
    splits = pd.read_csv(folder / "splits.csv")
    assert len(draw_knn_images(splits, replace(PARAMS, seed=2**64 - 1))) == 5
    with pytest.raises(ValidationError, match="less than 18446744073709551616"):
        replace(PARAMS, seed=2**64)


def test_too_few_training_images_are_named(folder: Path) -> None:
    splits = pd.read_csv(folder / "splits.csv")
    with pytest.raises(InputError, match=r"neighbours = 9: there are only 8 images .* 'train'"):
        draw_knn_images(splits, replace(PARAMS, knn_images=90, knn_neighbours=9))


@pytest.mark.parametrize("arguments", [[], ARGUMENTS[2:], ["image.jpg", *ARGUMENTS]])
def test_it_wants_all_of_its_files_and_nothing_else(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        stage.main(arguments)
    assert "usage: " in capsys.readouterr().err
