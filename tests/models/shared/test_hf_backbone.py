"""Tests of src/models/shared/hf_backbone.py, on models that are made here, small and random."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from src.core.cli import InputError
from src.models.shared import hf_backbone
from src.models.shared.detector import Detector, build_detector, load_detector, save_config
from tests.conftest import isolated_environment
from tests.helpers import ROOT
from tests.helpers.make_detectors import CLASSES, random_images
from tests.helpers.make_training import MODEL
from tests.helpers.servers import Answer, Request, Server

SIZE = 32  # pixels that the positions are made for
COMMIT = "c0ffee" * 6 + "c0ff"
_LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_VISION = {**_LAYERS, "image_size": SIZE, "patch_size": 8}


def make_model(kind: str) -> Any:
    """Return a random model of transformers as somebody would publish it."""
    torch.manual_seed(0)
    lib: Any = transformers
    if kind == "clip":
        texts = {**_LAYERS, "vocab_size": 50}
        return lib.CLIPModel(lib.CLIPConfig(text_config=texts, vision_config=_VISION))
    if kind == "vit":
        return lib.ViTModel(lib.ViTConfig(**_VISION))
    if kind == "classifier":  # its checkpoint has no pooling
        return lib.ViTForImageClassification(lib.ViTConfig(**_VISION))
    return lib.ConvNextModel(lib.ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1] * 4))


def publish(kind: str, folder: Path) -> Any:
    """Write a model to `folder` and return its half for images."""
    model = make_model(kind).eval()
    model.save_pretrained(folder)
    processor: Any = transformers.ViTImageProcessor
    processor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(folder)
    part = {"clip": "vision_model", "classifier": "vit"}.get(kind, "")
    return model.get_submodule(part)


def univfd(backbone: str, weights: dict[str, Tensor], size: int = SIZE) -> Detector:
    params = replace(MODEL, name="univfd", backbone=backbone, weights="main", image_size=size)
    return build_detector(params, CLASSES, 0, weights)


@pytest.mark.parametrize("kind", ["clip", "vit", "classifier", "convnext"])
def test_features_are_those_of_the_published_model(kind: str, tmp_path: Path) -> None:
    published = publish(kind, tmp_path / "model")
    weights = hf_backbone.fetch(str(tmp_path / "model"), "main")
    assert not any("text" in name for name in weights)
    detector = univfd(str(tmp_path / "model"), weights)
    assert detector.config.mean == (0.1, 0.2, 0.3)
    assert detector.config.std == (0.4, 0.5, 0.6)

    pixels = detector.normalised(random_images(3, SIZE))
    with torch.no_grad():
        expected = published(pixel_values=pixels)
        features = detector.network.get_submodule("backbone")(pixels)
    own = expected.last_hidden_state[:, 0] if kind == "classifier" else expected.pooler_output
    torch.testing.assert_close(features, own.flatten(1))
    assert features.shape == (3, 16)


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_positions_are_resampled_for_other_sizes(kind: str, tmp_path: Path) -> None:
    publish(kind, tmp_path)
    detector = univfd(str(tmp_path), hf_backbone.fetch(str(tmp_path), "main"), size=48)
    assert detector(random_images(2, 48)).shape == (2, len(CLASSES))


def test_a_trained_detector_needs_neither_hub_nor_folder(tmp_path: Path) -> None:
    publish("clip", tmp_path / "model")
    weights = hf_backbone.fetch(str(tmp_path / "model"), "main")
    detector = univfd(str(tmp_path / "model"), weights).eval()
    assert str(tmp_path) not in detector.config.backbone
    (tmp_path / "model").rename(tmp_path / "gone")
    save_file(detector.network.state_dict(), tmp_path / "d.safetensors")
    save_config(detector.config, tmp_path / "d.json")
    loaded = load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    assert torch.equal(loaded(random_images()), detector(random_images()))


@pytest.mark.parametrize("weights", [{}, {"a": torch.zeros(1)}])
def test_weights_from_elsewhere_are_refused(weights: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"'owner/clip' is one of transformers.*\(main\)"):
        univfd("owner/clip", weights)


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    publish("vit", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in state if "embeddings" in name)
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"1 weights are missing, first {lost}"):
        hf_backbone.fetch(str(tmp_path), "main")


def test_a_model_without_features_of_the_whole_image_is_refused(tmp_path: Path) -> None:
    lib: Any = transformers
    settings = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4}
    lib.SegformerModel(lib.SegformerConfig(**settings)).save_pretrained(tmp_path)
    lib.ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"\(segformer\) gives no features.*choose one like CLIP"):
        hf_backbone.fetch(str(tmp_path), "main")


def test_a_folder_that_is_not_there_is_said_with_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"there is no folder {tmp_path}/dinov2: give an absolut"):
        hf_backbone.fetch("./dinov2", "main")


def test_a_folder_without_a_model_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot load it:.*dvc repro --pull weights.*HF_HOME"):
        hf_backbone.fetch(str(tmp_path), "main")


class Hub:
    """The hub's files of one repository, at one revision."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, request: Request) -> Answer:
        prefix = "/owner/clip/resolve/v1/"
        path = self.folder / request.path.removeprefix(prefix)
        headers = {"X-Repo-Commit": COMMIT}
        if not request.path.startswith(prefix) or not path.is_file():
            return Answer(404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        body = path.read_bytes()
        return Answer(200, body, {**headers, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'})


@pytest.mark.slow
def test_the_stage_fetches_a_revision_from_the_hub(tmp_path: Path) -> None:
    publish("clip", tmp_path / "published")
    model = replace(MODEL, name="univfd", backbone="owner/clip", weights="v1")
    (tmp_path / "params.yaml").write_text(json.dumps({"model": asdict(model)}))
    with Server(Hub(tmp_path / "published")) as server:
        done = subprocess.run(
            [sys.executable, "-m", "src.weights", "start.safetensors"],
            cwd=tmp_path,
            env=isolated_environment(tmp_path)
            | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert server.url not in done.stderr
    found = load_file(tmp_path / "start.safetensors")
    expected = hf_backbone.fetch(str(tmp_path / "published"), "main")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
