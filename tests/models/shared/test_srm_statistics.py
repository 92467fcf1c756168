"""What the statistics of residuals count, and what they do not depend on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from src.core.cli import InputError
from src.models.shared.detector import build_detector
from src.models.shared.srm_statistics import BlockSpectrum, CoOccurrences, Statistics
from tests.helpers.make_data import make_image
from tests.helpers.make_detectors import CLASSES
from tests.helpers.make_training import MODEL


def pictures(size: int, count: int = 2) -> Tensor:
    made = np.stack([make_image(i, size, fake=i % 2 == 1) for i in range(count)])
    return torch.from_numpy(made).permute(0, 3, 1, 2).float()


def counted(triples: list[tuple[int, ...]]) -> list[float]:
    """Return the roots of the shares of triples that are neither negated nor reversed, sorted."""
    alike = Counter(
        min(t, tuple(-v for v in t), t[::-1], tuple(-v for v in t[::-1])) for t in triples
    )
    return sorted((count / len(triples)) ** 0.5 for count in alike.values())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_neighbouring_residuals_are_counted_along_and_across(order: int) -> None:
    pixels = pictures(32, 1)
    right = np.diff(pixels[0].numpy(), order, 2)  # (3, rows, columns)
    down = np.diff(pixels[0].numpy(), order, 1).transpose(0, 2, 1)  # along its last, too
    along, across = (
        [
            tuple(int(v) for v in three)
            for values in (right, down)
            for channel in np.clip(np.rint(values / order), -2, 2)
            for line in (channel if lines == "along" else channel.T)
            for three in zip(line, line[1:], line[2:], strict=False)
        ]
        for lines in ("along", "across")
    )
    block = 2 * 39 + 63  # along, across, colours
    found = CoOccurrences()(pixels)[0, (order - 1) * block :]
    for triples, part in ((along, found[:39]), (across, found[39:78])):
        expected = counted(triples)
        assert len(expected) > 20
        np.testing.assert_allclose(sorted(part[part > 0].tolist()), expected, rtol=1e-6)


def test_a_grey_picture_has_equal_residuals_in_its_colours() -> None:
    grey = pictures(32, 1)[:, :1].expand(-1, 3, -1, -1)
    shares = CoOccurrences()(grey)[0, 78:141].square()
    assert (shares > 0).sum() == 3  # 0 0 0, 1 1 1 and 2 2 2, each with its negative
    assert shares.sum().item() == pytest.approx(1, rel=1e-6)


def test_a_flat_picture_has_no_residuals_and_no_power() -> None:
    seen = Statistics()(torch.full((1, 3, 40, 40), 7.0))[0]
    shares, power = seen[:-16], seen[-16:]
    assert sorted(shares.unique().tolist()) == [0, 1]
    assert shares.sum() == 11  # one for each count
    assert not power.any()


@pytest.mark.parametrize("change", ["negative", "mirrored", "upside down", "turned"])
def test_sign_and_side_do_not_matter(change: str) -> None:
    pixels = pictures(64)
    changed = {
        "negative": 255 - pixels,
        "mirrored": pixels.flip(3),
        "upside down": pixels.flip(2),
        "turned": pixels.rot90(1, (2, 3)),
    }[change]
    residuals, spectrum = CoOccurrences(), BlockSpectrum()
    assert torch.equal(residuals(changed), residuals(pixels))
    torch.testing.assert_close(spectrum(changed), spectrum(pixels), rtol=1e-4, atol=1e-4)


def test_the_spectrum_is_that_of_windowed_blocks() -> None:
    pixels = pictures(48, 1)
    luma = np.einsum("chw,c->hw", pixels[0].numpy(), [0.299, 0.587, 0.114])
    window = np.outer(np.hanning(34)[1:-1], np.hanning(34)[1:-1])
    blocks = [luma[y : y + 32, x : x + 32] for y in (0, 16) for x in (0, 16)]
    powers = [np.abs(np.fft.fft2((block - block.mean()) * window)) ** 2 for block in blocks]
    power = np.mean(powers, 0) / window.sum()
    distance = np.hypot(np.fft.fftfreq(32)[:, np.newaxis], np.fft.fftfreq(32))
    rings = [
        power[(ring / 32 <= distance) & (distance < (ring + 1) / 32)].mean() for ring in range(16)
    ]
    np.testing.assert_allclose(BlockSpectrum()(pixels)[0], np.log1p(rings), rtol=1e-4)


@pytest.mark.parametrize("size", [32, 33, 47, 95, 224])
def test_any_size_from_a_block_on_gives_as_many_statistics(size: int) -> None:
    seen = Statistics()
    together = seen(pictures(size, 3))
    assert together.shape == (3, seen.dims)
    assert together.isfinite().all()
    alone = torch.cat([seen(picture[None]) for picture in pictures(size, 3)])
    torch.testing.assert_close(together, alone)


def test_a_smaller_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.image_size = 31: srm needs 32 or more"):
        build_detector(replace(MODEL, name="srm", image_size=31), CLASSES, 0)


def test_half_precision_does_not_touch_the_statistics() -> None:
    images = pictures(64).permute(0, 2, 3, 1).to(torch.uint8)
    detector = build_detector(replace(MODEL, name="srm", image_size=64), CLASSES, 0)
    pixels = detector.normalised(images)
    plain = Statistics()(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Statistics()(pixels), plain)
    assert torch.equal(Statistics()(pictures(64)), plain)  # grey levels, whatever the unit's digits
