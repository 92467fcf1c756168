"""What is special to BEiT-3 on statistics: its tokens, its whitening, its sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from src.core.cli import InputError
from src.models.beit3_srm import Beit3SRM
from src.models.shared.detector import Detector, build_detector
from tests.helpers.make_data import make_image
from tests.helpers.make_detectors import CLASSES
from tests.helpers.make_training import MODEL


def pictures(count: int, size: int = 64) -> Tensor:
    made = [make_image(i, size, fake=i % 2 == 1) for i in range(count)]
    return torch.from_numpy(np.stack(made))


def started(count: int = 40) -> Detector:
    detector = build_detector(replace(MODEL, name="beit3_srm", image_size=64), CLASSES, 0)
    detector.init_weights(pictures(count), 0)
    return detector.eval()


def network_of(detector: Detector) -> Beit3SRM:
    assert isinstance(detector.network, Beit3SRM)
    return detector.network


def test_a_token_is_of_its_patch_alone() -> None:
    detector = started()
    images = pictures(1)
    swapped = images.clone()
    swapped[0, :16, 16:32], swapped[0, 48:, :16] = images[0, 48:, :16], images[0, :16, 16:32]
    embed = network_of(detector).transformer.patch_embed
    before, after = (embed(detector.normalised(each))[0] for each in (images, swapped))
    assert before.shape == (16, 192)
    order = list(range(16))
    order[1], order[12] = order[12], order[1]
    torch.testing.assert_close(after, before[order])


def test_what_it_starts_from_is_whitened() -> None:
    detector = started(200)
    crop = network_of(detector).crop
    rows = crop.seen(detector.normalised(pictures(200)))
    white = linear(rows, crop.weight, crop.bias).double()
    assert white.mean(0).abs().max() < 1e-3
    plain = (rows / rows.std(0).clamp(min=1e-6)).double()
    strengths, before = (torch.linalg.eigvalsh(each.T.cov())[-10:] for each in (white, plain))
    assert strengths.max() < 1.01
    assert strengths.max() / strengths.min() < before.max() / before.min() / 5


def test_grey_levels_come_back_from_normalised_pixels() -> None:
    detector = started()
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 16, 1).permute(1, 2, 0)
    square = images.reshape(1, 64, 64, 3)
    crop = network_of(detector).crop
    levels = detector.normalised(square) * crop.std + crop.mean
    assert torch.equal(levels.round().permute(0, 2, 3, 1).to(torch.uint8), square)


@pytest.mark.parametrize(
    ("size", "said"), [(16, "beit3_srm needs 32 or more"), (40, "needs a multiple of 16")]
)
def test_sizes_that_do_not_suit_are_refused(size: int, said: str) -> None:
    with pytest.raises(InputError, match=f"model.image_size = {size}: .*{said}"):
        build_detector(replace(MODEL, name="beit3_srm", image_size=size), CLASSES, 0)
