import pytest
import torch
from torch import Tensor, nn

from src.models import build_detector
from src.training.initialise import init_from_scratch
from tests.make_training import MODEL

CLASSES = ("real", "fake")


def random_images(count: int = 4, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def test_the_start_from_scratch_whitens_patches_and_scales_with_fan_in() -> None:
    detector = build_detector(MODEL, CLASSES, 0)
    # Strong coarse colours and faint grain, as in photographs.
    coarse = random_images(64, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = coarse // 2 + random_images(64) // 16
    init_from_scratch(detector, images, seed=0)
    with torch.no_grad():
        pixels = detector.normalised(images)
        tokens = detector.network.patch_embed(pixels).flatten(0, 1)
    patches = nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(32), atol=1e-3, rtol=0)
    before, after = (torch.linalg.eigvalsh(rows.T.cov()) for rows in (patches, tokens))
    assert before.max() > 100 * before.median()
    assert after.max() < 10 * after.median()
    assert after.max() < 1.001
    layer = detector.network.get_parameter("blocks.0.mlp.fc1.weight")
    assert layer.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_the_start_from_scratch_is_a_function_of_images_and_seed() -> None:
    first, second, other = (build_detector(MODEL, CLASSES, 0) for _ in range(3))
    for detector, seed in ((first, 0), (second, 0), (other, 1)):
        init_from_scratch(detector, random_images(), seed)
    assert torch.equal(
        first.network.patch_embed.proj.weight, second.network.patch_embed.proj.weight
    )
    assert not torch.equal(
        first.network.patch_embed.proj.weight, other.network.patch_embed.proj.weight
    )
