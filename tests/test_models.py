from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from src.command import InputError
from src.images import View
from src.models import (
    MODELS,
    Detector,
    ModelParams,
    build_detector,
    load_detector,
    save_identity,
)
from tests.make_training import MODEL

CLASSES = ("real", "fake")


def random_images(count: int = 4, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def official_layout(detector: Detector) -> dict[str, Tensor]:
    """Return the network's weights as Microsoft's BEiT-3 checkpoints name them."""
    embeddings = {
        "cls_token": "beit3.vision_embed.cls_token",
        "patch_embed.proj.weight": "beit3.vision_embed.proj.weight",
        "patch_embed.proj.bias": "beit3.vision_embed.proj.bias",
    }
    parts = {
        "norm1": "self_attn_layer_norm.A",
        "norm2": "final_layer_norm.A",
        "attn.norm": "self_attn.inner_attn_ln.A",
        "attn.proj": "self_attn.out_proj.A",
        "mlp.fc1": "ffn.A.fc1",
        "mlp.fc2": "ffn.A.fc2",
        "mlp.norm": "ffn.A.ffn_layernorm",
    }
    state: dict[str, Tensor] = {}
    for name, value in detector.network.state_dict().items():
        if name == "pos_embed":
            # Two positions of padding stand before the class token's.
            padded = torch.cat([torch.zeros(2, value.shape[2]), value[0]])
            state["beit3.encoder.embed_positions.A.weight"] = padded
        elif name.startswith("blocks."):
            _, block, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            prefix = f"beit3.encoder.layers.{block}."
            if part == "attn.qkv":
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    state[f"{prefix}self_attn.{letter}_proj.A.{kind}"] = third
            else:
                state[f"{prefix}{parts[part]}.{kind}"] = value
                state[f"{prefix}{parts[part].replace('.A', '.B')}.{kind}"] = value + 1
        else:
            state[embeddings.get(name, name)] = value
    return state


def random_detector(size: int = 32, classes: tuple[str, ...] = CLASSES) -> Detector:
    detector = build_detector(replace(MODEL, image_size=size), classes, 1)
    for weight in detector.parameters():
        nn.init.normal_(weight, std=0.2)
    return detector.eval()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_is_beit3(name: str) -> None:
    identity = replace(build_detector(MODEL, CLASSES, 0).identity, name=name)
    with torch.device("meta"):
        detector = Detector(identity)
    names = dict(detector.network.named_parameters())
    assert {"blocks.0.attn.norm.weight", "blocks.0.mlp.norm.weight", "fc_norm.weight"} <= set(names)
    assert names["head.weight"].shape[0] == 2


def test_pixels_are_normalised_on_the_device() -> None:
    detector = build_detector(MODEL, CLASSES, 0)
    white = detector.normalised(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 2, 2)
    expected = (1 - torch.tensor(detector.identity.mean)) / torch.tensor(detector.identity.std)
    torch.testing.assert_close(white[0, :, 0, 0], expected)


def test_a_size_off_the_patch_grid_and_an_unknown_model_are_refused() -> None:
    with pytest.raises(InputError, match="image_size = 30: beit3_nano needs a multiple of 8"):
        build_detector(replace(MODEL, image_size=30), CLASSES, 0)
    with pytest.raises(ValueError, match="beit3_base"):
        replace(MODEL, name="beit4")


def test_a_saved_detector_comes_back(tmp_path: Path) -> None:
    detector = random_detector(classes=("real", "gan", "diffusion"))
    save_file(detector.network.state_dict(), tmp_path / "d.safetensors")
    save_identity(detector.identity, tmp_path / "d.json")
    loaded = load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    assert loaded.identity == detector.identity
    assert loaded.identity.view == View(size=32, fit="native")
    assert torch.equal(loaded(random_images()), detector(random_images()))


def test_weights_of_another_detector_are_refused(tmp_path: Path) -> None:
    save_file(random_detector(64).network.state_dict(), tmp_path / "d.safetensors")
    save_identity(random_detector().identity, tmp_path / "d.json")
    with pytest.raises(InputError, match="does not fit"):
        load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(InputError, match="does not describe a detector"):
        load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")


@pytest.mark.parametrize("kind", ["timm.safetensors", "timm.pth", "official.pth"])
def test_a_file_of_weights_replaces_all_but_the_head(tmp_path: Path, kind: str) -> None:
    published = random_detector(classes=tuple("abcdefg"))
    path = tmp_path / kind
    state = published.network.state_dict()
    if kind.endswith("safetensors"):
        save_file(state, path)
    elif kind.startswith("timm"):
        torch.save(state, path)
    else:
        torch.save({"model": official_layout(published)}, path)
    detector = build_detector(replace(MODEL, weights=str(path)), CLASSES, 0)
    for name, value in detector.network.state_dict().items():
        if name.startswith("head."):
            assert value.abs().max() < 0.001
        else:
            assert torch.equal(value, state[name]), name


def test_position_embeddings_follow_the_image_size(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(random_detector(32).network.state_dict(), path)
    detector = build_detector(replace(MODEL, weights=str(path), image_size=64), CLASSES, 0)
    assert detector(random_images(size=64)).shape == (4, 2)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    files = {
        "nothing-alike.safetensors": {"something": torch.ones(1)},
        "other-shapes.safetensors": {
            name: value.repeat_interleave(2, 0)
            for name, value in random_detector().network.state_dict().items()
        },
    }
    for name, state in files.items():
        save_file(state, tmp_path / name)
        with pytest.raises(InputError, match=f"{name} is not of this model"):
            build_detector(replace(MODEL, weights=str(tmp_path / name)), CLASSES, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (replace(MODEL, weights="absent.pth"), "there is no file absent.pth"),
        (replace(MODEL, weights="in22k_ft_in1k"), r"one of the tags \[\]"),
        (replace(MODEL, name="beit3_base", weights="in21k"), "'in22k_ft_in1k'"),
    ],
)
def test_unknown_weights_are_refused(params: ModelParams, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_detector(params, CLASSES, 0)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(InputError, match=f"{name} holds no weights"):
            build_detector(replace(MODEL, weights=str(tmp_path / name)), CLASSES, 0)


def test_without_a_network_the_message_says_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(_name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("src.models.load_state_dict_from_hf", offline)
    with pytest.raises(InputError, match="HF_HOME"):
        build_detector(replace(MODEL, name="beit3_base", weights="pt", image_size=32), CLASSES, 0)
