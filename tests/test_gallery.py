import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from src import gallery as stage
from src import predict
from src.core.cli import InputError
from src.core.tables import read_table, write_table
from src.evaluation.errors import error_columns
from src.images.decode import decode
from src.inference.predictions import PREDICTIONS
from tests.helpers.make_training import write_detector_inputs
from tests.test_predict import ARGUMENTS, PARAMS

PATHS = [
    *("errors.csv", "neighbours.csv", "splits.csv", "raw"),
    *("detector.safetensors", "detector.json", "knn_index.safetensors", "sheets"),
]
HEIGHT = 8 + 200 + 2 * 16  # of a row: gap, tile, two lines


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    write_detector_inputs(folder, vars(PARAMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setenv("REAL_OR_GENERATED_WORKERS", "0")
        predict.main(ARGUMENTS)
    (folder / "params.yaml").write_text("gallery: {heatmap_cells: 3, threads: 1}\n")
    return folder


@pytest.fixture(name="folder")
def copied(predicted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(predicted, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return folder


def write_errors(folder: Path, kinds: dict[str, int]) -> None:
    """Call the first test images errors, so many of each kind."""
    predictions = read_table(folder / "predictions.csv", PREDICTIONS)
    test = predictions[predictions["split"] == "test"].assign(score=0.5)
    names = [kind for kind, count in kinds.items() for _ in range(count)]
    errors = test.head(len(names)).assign(error=pd.Series(names, dtype=str).to_numpy())
    write_table(errors.astype({"error": str}), folder / "errors.csv", error_columns(PREDICTIONS))


def test_each_error_stands_beside_its_heatmap_and_its_neighbours(folder: Path) -> None:
    write_errors(folder, {"false positive": 2, "false negative": 1})
    stage.main(PATHS)

    sheets = {path.name: decode(path.read_bytes()) for path in (folder / "sheets").iterdir()}
    assert set(sheets) == {"false_positives.png", "false_negatives.png"}
    columns = 2 + PARAMS.knn_neighbours
    for name, rows in (("false_positives.png", 2), ("false_negatives.png", 1)):
        assert sheets[name].shape == (16 + 2 * 8 + rows * HEIGHT, 8 + columns * 208, 3)
    # Each tile holds a picture.
    sheet = sheets["false_negatives.png"]
    for column in range(columns):
        left = 8 + column * 208
        assert sheet[32 + 60 : 32 + 140, left + 60 : left + 140].std() > 0


def test_a_second_run_writes_the_same_bytes(folder: Path) -> None:
    write_errors(folder, {"false positive": 1, "false negative": 1})
    runs = []
    for _ in range(2):
        stage.main(PATHS)
        runs.append([path.read_bytes() for path in sorted((folder / "sheets").iterdir())])

    assert runs[0] == runs[1]


def test_no_errors_are_a_sheet_too(folder: Path) -> None:
    write_errors(folder, {})
    stage.main(PATHS)

    assert len(list((folder / "sheets").iterdir())) == 2


def test_an_image_that_the_splits_do_not_know_is_named(folder: Path) -> None:
    write_errors(folder, {"false positive": 1})
    splits = pd.read_csv(folder / "splits.csv", keep_default_na=False)
    splits[splits["split"] == "train"].to_csv(folder / "splits.csv", index=False)

    with pytest.raises(InputError, match="is in the predictions but not in the splits"):
        stage.main(PATHS)
    assert not (folder / "sheets").exists()


def test_missing_shards_leave_nothing_half_written(folder: Path) -> None:
    write_errors(folder, {"false positive": 1})
    shutil.rmtree(folder / "raw")

    with pytest.raises((InputError, OSError), match=r"\.tar"):
        stage.main(PATHS)
    assert not (folder / "sheets").exists()


@pytest.fixture(autouse=True, scope="module")
def lenient_arithmetic() -> object:
    """The stages ask for deterministic algorithms; what other tests do must not be refused."""
    yield
    torch.use_deterministic_algorithms(False)
