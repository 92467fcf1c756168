import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from src import weights as stage
from src.core.cli import InputError
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import build_detector
from tests.helpers.make_detectors import CLASSES, random_detector
from tests.helpers.make_training import MODEL

OUT = Path("models/start.safetensors")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_params(params: ModelParams) -> None:
    Path("params.yaml").write_text(json.dumps({"model": asdict(params)}))


def test_without_published_weights_the_file_is_empty(folder: Path) -> None:
    del folder
    write_params(MODEL)
    stage.main([str(OUT)])
    assert load_file(OUT) == {}


def test_an_official_checkpoint_becomes_a_file_that_training_reads(folder: Path) -> None:
    del folder
    state = random_detector().network.state_dict()
    # Views of one storage, and not contiguous: safetensors takes neither.
    state["extra"] = state["head.weight"].T
    torch.save({"model": state}, "weights.pth")
    params = replace(MODEL, weights="weights.pth")
    write_params(params)
    stage.main([str(OUT)])
    first = OUT.read_bytes()
    stage.main([str(OUT)])
    assert OUT.read_bytes() == first
    detector = build_detector(params, CLASSES, 0, load_file(OUT))
    name = "blocks.0.mlp.fc1.weight"
    assert torch.equal(detector.network.get_parameter(name), state[name])


def test_a_missing_file_writes_nothing(folder: Path) -> None:
    del folder
    write_params(replace(MODEL, weights="absent.pth"))
    with pytest.raises(InputError, match=r"no file absent\.pth"):
        stage.main([str(OUT)])
    assert not OUT.exists()
