from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from src import predict as stage
from src.models import build_detector, save_identity
from src.predict import PredictParams, predict
from src.schema import PREDICTIONS, SPLIT_TABLE, read_table, write_table
from tests.make_training import MODEL, make_split

PARAMS = PredictParams(crops_per_side=2, batch_size=4, threads=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = make_split(tmp_path / "raw", [("train", 2), ("val", 1), ("test", 2)])
    write_table(table, tmp_path / "splits.csv", SPLIT_TABLE)
    detector = build_detector(MODEL, ("real", "glide", "stylegan2"), 0)
    torch.nn.init.normal_(detector.network.get_parameter("head.weight"))
    save_file(detector.network.state_dict(), tmp_path / "detector.safetensors")
    save_identity(detector.identity, tmp_path / "detector.json")
    (tmp_path / "params.yaml").write_text(
        "predict: {crops_per_side: 2, batch_size: 4, threads: 1}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "0")
    return tmp_path


def test_val_and_test_are_scored_twice_the_same(folder: Path) -> None:
    paths = ["splits.csv", "raw", "detector.safetensors", "detector.json", "predictions.csv"]
    stage.main(paths)
    first = (folder / "predictions.csv").read_bytes()
    stage.main(paths)
    assert (folder / "predictions.csv").read_bytes() == first
    predictions = read_table(folder / "predictions.csv", PREDICTIONS)
    splits = read_table(folder / "splits.csv", SPLIT_TABLE)
    assert list(predictions["image_id"]) == list(splits.loc[splits["split"] != "train", "image_id"])
    assert predictions["logit"].nunique() == len(predictions)


def test_scores_do_not_depend_on_the_other_images(folder: Path) -> None:
    splits = pd.read_csv(folder / "splits.csv")
    accelerator = Accelerator(cpu=True)
    detector = build_detector(MODEL, ("real", "fake"), 0)
    together = predict(splits, folder / "raw", detector, PARAMS, accelerator)
    few = splits.iloc[[7, 3]].reset_index(drop=True)
    alone = predict(few, folder / "raw", detector, replace(PARAMS, batch_size=1), accelerator)
    np.testing.assert_allclose(alone["logit"], together["logit"].iloc[[7, 3]], atol=1e-5)
