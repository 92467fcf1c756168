import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.training.processing import KERNELS, STEPS, blur, noise, rescale
from tests.helpers.make_data import make_image

IMAGE = make_image(0, 40)


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=40)
@given(
    factor=st.floats(0.1, 10),
    kernel=st.sampled_from(KERNELS),
    size=st.integers(8, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_a_window_is_rescaled_to_what_the_crop_needs(
    factor: float, kernel: int, size: int, height: int, width: int
) -> None:
    image = np.ascontiguousarray(make_image(0, 60)[:height, :width])
    found = rescale(image, factor, kernel, size, draws())
    for side, original in zip(found.shape[:2], image.shape[:2], strict=True):
        assert side >= min(size, int(original * factor))
        assert side <= size + factor + 1  # and little more, however large the image


def test_rescaling_by_one_is_a_window() -> None:
    found = rescale(IMAGE, 1.0, cv2.INTER_LINEAR, 24, draws())
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (24, 24), axis=(0, 1))
    assert (windows.transpose(0, 1, 3, 4, 2) == found).all((2, 3, 4)).sum() == 1


@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_pixels_and_only_by_its_draws(name: str) -> None:
    bounds = {"blur": (1.0, 2.0), "noise": (0.02, 0.05)}.get(name, (30, 60))
    before = IMAGE.copy()
    first, again, other = (STEPS[name](IMAGE, draws(seed), *bounds) for seed in (0, 0, 1))
    assert first.shape == IMAGE.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, IMAGE)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(IMAGE, before)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_lower_quality_loses_more(name: str) -> None:
    errors = []
    for quality in (30, 60, 95):
        found = STEPS[name](IMAGE, draws(), quality, quality).astype(int)
        errors.append(float(abs(found - IMAGE).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


def test_noise_and_blur_of_nothing_change_nothing() -> None:
    np.testing.assert_array_equal(noise(IMAGE, draws(), 0.0, 0.0), IMAGE)
    np.testing.assert_array_equal(blur(IMAGE, draws(), 0.0, 0.0), IMAGE)


def test_noise_has_the_deviation_that_is_drawn() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    found = noise(grey, draws(), 0.03, 0.03).astype(float) - 128
    assert found.std() == pytest.approx(0.03 * 255, rel=0.05)
