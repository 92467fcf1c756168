from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.core.cli import InputError
from src.images.crops import View
from src.models.shared.blueprint import DetectorConfig, ModelParams, names
from src.models.shared.detector import (
    Detector,
    build_detector,
    load_detector,
    published_weights,
    save_config,
)
from src.models.shared.pretrained import save_weights
from tests.helpers import ROOT
from tests.helpers.full_disk import limited_files
from tests.helpers.make_detectors import CLASSES, random_detector, random_images
from tests.helpers.make_training import MODEL


def test_every_file_without_underscore_is_a_detector_and_has_a_source() -> None:
    assert {"beit3_base", "beit3_tiny", "univfd", "xray"} <= set(names())
    for name in names():
        assert (ROOT / f"src/models/{name}.py").read_text().startswith('"""')


@pytest.mark.parametrize("name", names())
def test_every_detector_can_be_built_by_its_identity_alone(name: str) -> None:
    size = 32 if name.startswith("beit3") else 224
    config = replace(IDENTITY, name=name, view=View(size=size, resize=False))
    with torch.device("meta"):
        detector = Detector(config)
        if name == "univfd_knn":  # its neighbours are values, which the device `meta` has not
            return
        logits = detector(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    assert logits.shape == (2, 2)


IDENTITY = DetectorConfig(
    name="beit3_nano",
    backbone="",
    view=View(size=32, resize=False),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
    classes=CLASSES,
)


def test_pixels_are_normalised_by_their_channel() -> None:
    detector, images = Detector(IDENTITY), random_images()
    expected = (images.float() - detector.mean) / detector.std
    found = detector.normalised(images)
    torch.testing.assert_close(found, expected.permute(0, 3, 1, 2), atol=0, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_pixels_are_normalised_on_the_device() -> None:
    white = Detector(IDENTITY).normalised(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 2, 2)
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([0.5 / 0.2, 0.6 / 0.25, 0.7 / 0.3]))


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"not a detector; choose one of \['beit3_base'.*'xray'"):
        replace(MODEL, name="beit4")


@pytest.mark.parametrize("name", ["beit3_nano", "npr", "resnet50"])
def test_a_backbone_that_nobody_takes_is_refused(name: str) -> None:
    chosen = replace(MODEL, name=name, backbone="resnet18", image_size=64)
    with pytest.raises(InputError, match=r"model\.backbone = 'resnet18': this detector has a net"):
        build_detector(chosen, CLASSES, 0)


def test_a_full_disk_leaves_no_half_of_a_detector(tmp_path: Path) -> None:
    with limited_files(5000), pytest.raises(OSError, match=r"File too large: .*d\.safetensors"):
        save_weights(random_detector().network.state_dict(), tmp_path / "d.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_saved_detector_comes_back(tmp_path: Path) -> None:
    detector = random_detector(classes=("real", "gan", "diffusion"))
    save_file(detector.network.state_dict(), tmp_path / "d.safetensors")
    save_config(detector.config, tmp_path / "d.json")
    loaded = load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    assert loaded.config == detector.config
    assert loaded.config.view == View(size=32, resize=False)
    assert torch.equal(loaded(random_images()), detector(random_images()))


def test_weights_of_another_detector_are_refused(tmp_path: Path) -> None:
    save_file(random_detector(64).network.state_dict(), tmp_path / "d.safetensors")
    save_config(random_detector().config, tmp_path / "d.json")
    with pytest.raises(InputError, match="does not fit"):
        load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(InputError, match="does not describe a detector"):
        load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (replace(MODEL, weights="absent.pth"), "there is no file absent.pth"),
        (replace(MODEL, weights="in22k_ft_in1k"), "nothing is published for this detector"),
        (replace(MODEL, name="beit3_base", weights="in21k"), r"tags \[.*'in22k_ft_in1k'"),
        (replace(MODEL, name="resnet50", weights="in21k"), r"for resnet50 .* tags \["),
        (replace(MODEL, name="univfd", weights="x"), r"vit_large_patch14_clip.*'openai'"),
        (replace(MODEL, name="univfd", backbone="resnet18", weights="x"), "for resnet18 choose"),
        (replace(MODEL, name="dct_cnn", weights="x"), "nothing is published"),
    ],
)
def test_unknown_weights_are_refused(params: ModelParams, message: str) -> None:
    with pytest.raises(InputError, match=message):
        published_weights(params)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"epoch": 3}}, tmp_path / "numbers.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
    for name in ("broken.pth", "broken.safetensors", "list.pth", "numbers.pth"):
        with pytest.raises(InputError, match=f"{name} holds no weights: expected a name and a"):
            published_weights(replace(MODEL, weights=str(tmp_path / name)))


def test_a_checkpoint_of_the_official_training_is_read(tmp_path: Path) -> None:
    state = random_detector().network.state_dict()
    whole = {"model": state, "optimizer": {"lr": 0.1}, "epoch": 3, "args": Namespace(lr=0.1)}
    torch.save(whole, tmp_path / "best.pth")
    found = published_weights(replace(MODEL, weights=str(tmp_path / "best.pth")))
    assert found.keys() == state.keys()


def test_no_weights_are_none() -> None:
    assert published_weights(MODEL) == {}


def test_without_a_network_the_message_says_the_three_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(_name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("src.models.shared.pretrained.load_state_dict_from_hf", offline)
    with pytest.raises(InputError, match=r"dvc repro --pull weights.*HF_HOME.*name the file"):
        published_weights(replace(MODEL, name="beit3_base", weights="pt"))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("beit3_nano", 30, "image_size = 30: beit3_nano needs a multiple of 8"),
        ("resnet50", 16, "image_size = 16: resnet50 needs 32 or more"),
        ("npr", 33, "image_size = 33: npr needs an even number"),
        ("xray", 34, "image_size = 34: xray needs a multiple of 4"),
        ("ela_cnn", 12, "image_size = 12: ela_cnn needs 16 or more"),
        ("dct_cnn", 7, "image_size = 7: dct_cnn needs 8 or more"),
    ],
)
def test_a_size_that_does_not_suit_is_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(replace(MODEL, name=name, image_size=size), CLASSES, 0)
