from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from src.core.cli import InputError
from src.models.shared.blueprint import DetectorConfig
from src.models.shared.detector import Detector, build_detector, published_weights
from tests.helpers.make_detectors import CLASSES, random_detector, random_images
from tests.helpers.make_training import MODEL
from tests.helpers.official_beit3 import OfficialBeit3

SIZES = ["beit3_base", "beit3_large", "beit3_nano", "beit3_tiny"]


def from_file(path: Path, **changes: int) -> Detector:
    params = replace(MODEL, weights=str(path), **changes)  # type: ignore[arg-type]  # ints only
    return build_detector(params, CLASSES, 0, published_weights(params)).eval()


@pytest.mark.parametrize("name", SIZES)
def test_every_size_is_beit3(name: str) -> None:
    config: DetectorConfig = replace(random_detector().config, name=name)
    with torch.device("meta"):
        network = Detector(config).network
    assert isinstance(network, VisionTransformer)
    weights = dict(network.named_parameters())
    assert {"blocks.0.attn.norm.weight", "blocks.0.mlp.norm.weight"} <= set(weights)
    assert weights["head.weight"].shape[0] == 2


def test_an_official_checkpoint_gives_the_official_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    official = OfficialBeit3(size=32, patch=8, width=32, depth=2, heads=2).eval()
    for weight in official.parameters():
        nn.init.normal_(weight, std=0.2)
    torch.save({"model": official.state_dict()}, tmp_path / "official.pth")
    detector = from_file(tmp_path / "official.pth")
    head: Tensor = detector.network.get_parameter("head.weight")
    with torch.no_grad():
        # The published head is of other classes, so ours starts anew.
        assert head.abs().max() < 0.001
        head.copy_(official.head.weight)
        detector.network.get_parameter("head.bias").copy_(official.head.bias)
        expected = official(detector.normalised(random_images()))
        found = detector(random_images())
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["timm.safetensors", "timm.pth"])
def test_a_file_of_weights_replaces_all_but_the_head(tmp_path: Path, kind: str) -> None:
    state = random_detector(classes=tuple("abcdefg")).network.state_dict()
    if kind.endswith("safetensors"):
        save_file(state, tmp_path / kind)
    else:
        torch.save(state, tmp_path / kind)
    for name, value in from_file(tmp_path / kind).network.state_dict().items():
        if name.startswith("head."):
            assert value.abs().max() < 0.001
        else:
            assert torch.equal(value, state[name]), name


def test_a_checkpoint_before_fine_tuning_has_no_last_norm(tmp_path: Path) -> None:
    state = random_detector().network.state_dict()
    body = {name: value for name, value in state.items() if not name.startswith("fc_norm.")}
    save_file(body, tmp_path / "pt.safetensors")
    network = from_file(tmp_path / "pt.safetensors").network
    assert torch.equal(network.get_parameter("fc_norm.weight"), torch.ones(32))


def test_position_embeddings_are_resampled_to_another_image_size(tmp_path: Path) -> None:
    # 224 pixels to 192, in patches of 8: 28 x 28 positions to 24 x 24. A ramp stays a ramp.
    published = random_detector(224)
    ramp = torch.linspace(-1, 1, 28).repeat(28, 1)
    with torch.no_grad():
        positions = published.network.get_parameter("pos_embed")
        positions[0, 1:] = ramp.flatten().unsqueeze(1)
    save_file(published.network.state_dict(), tmp_path / "224.safetensors")
    detector = from_file(tmp_path / "224.safetensors", image_size=192)
    assert detector(random_images(size=192)).shape == (4, 2)
    resampled = detector.network.get_parameter("pos_embed")[0]
    assert resampled.shape == (1 + 24 * 24, 32)
    assert torch.equal(resampled[0], positions[0, 0])  # the class token has no place
    grid = resampled[1:].reshape(24, 24, 32)
    torch.testing.assert_close(grid[:, :, 0], grid[0, :, 0].expand(24, 24), atol=1e-5, rtol=0)
    steps = grid[0, 2:-2, 0].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 2 / 27 * 28 / 24), atol=2e-3, rtol=0)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    state = random_detector().network.state_dict()
    files = {
        "nothing-alike.safetensors": {"something": torch.ones(1)},
        "one-missing.safetensors": {n: v for n, v in state.items() if n != "blocks.1.mlp.fc1.bias"},
        "other-shapes.safetensors": {n: v.repeat_interleave(2, 0) for n, v in state.items()},
    }
    for name, tensors in files.items():
        save_file(tensors, tmp_path / name)
        with pytest.raises(InputError, match=f"{name} is not of this model"):
            from_file(tmp_path / name)


def test_the_start_from_scratch_whitens_patches_and_scales_with_fan_in() -> None:
    detector = build_detector(MODEL, CLASSES, 0)
    # Strong coarse colours and faint grain, as in photographs.
    coarse = random_images(64, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = coarse // 2 + random_images(64) // 16
    detector.init_weights(images, seed=0)
    with torch.no_grad():
        pixels = detector.normalised(images)
        tokens = detector.network.get_submodule("patch_embed")(pixels).flatten(0, 1)
    patches = nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(32), atol=1e-3, rtol=0)
    before, after = (torch.linalg.eigvalsh(rows.T.cov()) for rows in (patches, tokens))
    assert before.max() > 100 * before.median()
    assert after.max() < 10 * after.median()
    assert after.max() < 1.001
    layer = detector.network.get_parameter("blocks.0.mlp.fc1.weight")
    assert layer.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_the_start_from_scratch_is_a_function_of_images_and_seed() -> None:
    weights = []
    for seed in (0, 0, 1):
        detector = build_detector(MODEL, CLASSES, 0)
        detector.init_weights(random_images(), seed)
        weights.append(detector.network.get_parameter("patch_embed.proj.weight"))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
