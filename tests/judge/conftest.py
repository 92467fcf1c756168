"""A trained judge that the tests of a run share, and images for it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src import export
from src import predict as stage
from src.core.tables import read_table
from src.dataset.columns import SPLIT_TABLE
from src.evaluation.calibration import Calibration, save_calibration
from src.images.shards import ShardReader
from tests.helpers.make_training import write_detector_inputs
from tests.test_export import write_export_inputs
from tests.test_predict import ARGUMENTS, PARAMS

TRAINED_ON = (
    "A demonstration, not for use: trained on the embedded sample alone, 8 images of 4 methods."
)
CALIBRATION = Calibration(temperature=0.5, threshold=0.6, ood_distance=0.01)


@pytest.fixture(name="trained", scope="session")
def trained_judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a run leaves: models, the same with `exported` ones, predictions, images as files."""
    folder = tmp_path_factory.mktemp("trained")
    write_detector_inputs(folder, vars(PARAMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setenv("REAL_OR_GENERATED_WORKERS", "0")
        stage.main(ARGUMENTS)
        (folder / "models").mkdir()
        for name in ("detector.safetensors", "detector.json", "knn_index.safetensors"):
            shutil.copy(folder / name, folder / "models" / name)
        save_calibration(CALIBRATION, folder / "models/calibration.json")
        splits = read_table(folder / "splits.csv", SPLIT_TABLE)
        for row in splits[splits["split"] == "test"].itertuples():
            path = folder / "images" / str(row.image_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            place = str(row.shard), int(str(row.offset)), int(str(row.length))
            path.write_bytes(ShardReader(folder / "raw").read(*place))
        exported = Path(shutil.copytree(folder / "models", folder / "exported"))
        read = ("detector.safetensors", "detector.json", "knn_index.safetensors")
        write_export_inputs(folder)
        written = [str(exported / name) for name in ("detector.onnx", "detector.onnx.json")]
        inputs = [str(exported / name) for name in (*read, "calibration.json")]
        export.main([*inputs, "split.json", *written])
        shutil.copy(exported / "detector.onnx.json", folder / "models")
    yield folder
    # The stage asks for them; they must not slow down or refuse what other tests do.
    torch.use_deterministic_algorithms(False)


@pytest.fixture(name="images")
def copied_images(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return tmp_path / "images"
