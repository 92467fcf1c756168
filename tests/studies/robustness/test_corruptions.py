"""What happens to images on their way through the world, one function each."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.params import load_params
from src.images.decode import decode
from studies.robustness.conditions import (
    PARAMS,
    UNTOUCHED,
    RobustnessParams,
    conditions,
    logits_schema,
)
from studies.robustness.corruptions import (
    CORRUPTIONS,
    corrupt,
    jpeg,
    jpeg_resize,
    resize,
    resize_jpeg,
    screenshots,
)
from tests.helpers.make_data import encode, make_image

COMMITTED = load_params(RobustnessParams, "robustness", PARAMS)
IMAGE = make_image(0, 48)


def error(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - other).mean())


def test_each_parameter_is_a_corruption_and_each_corruption_a_parameter() -> None:
    assert [field.name for field in fields(RobustnessParams)][: len(CORRUPTIONS)] == [*CORRUPTIONS]
    assert set(UNTOUCHED) <= set(CORRUPTIONS)
    assert {condition.corruption for condition in conditions(COMMITTED)} == set(CORRUPTIONS)


def test_each_condition_has_a_column_of_its_own() -> None:
    names = [condition.column for condition in conditions(COMMITTED)]
    assert len(set(names)) == len(names)
    assert set(names) < set(logits_schema(COMMITTED))


@pytest.mark.parametrize("condition", conditions(COMMITTED), ids=lambda c: c.column)
def test_every_condition_gives_an_image_and_leaves_the_original(
    condition: tuple[str, float],
) -> None:
    before = IMAGE.copy()
    image = corrupt(IMAGE, *condition, key=1, seed=0)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.flags.c_contiguous
    assert (before == IMAGE).all()
    assert image.shape != IMAGE.shape or error(image, IMAGE) > 0


@given(
    name=st.sampled_from(sorted(UNTOUCHED.keys() - {"blur"})),
    seed=st.integers(0, 2**32),
    height=st.integers(9, 60),
    width=st.integers(9, 60),
)
def test_the_level_that_is_said_to_change_nothing_changes_nothing(
    name: str, seed: int, height: int, width: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert (corrupt(image, name, UNTOUCHED[name], key=seed, seed=0) == image).all()


@given(
    name=st.sampled_from(sorted(CORRUPTIONS)),
    key=st.integers(0, 2**64 - 1),
    seed=st.integers(0, 2**64 - 1),
)
def test_draws_belong_to_image_and_seed(name: str, key: int, seed: int) -> None:
    level = getattr(COMMITTED, name)[0]
    first = corrupt(IMAGE, name, level, key, seed)
    assert (first == corrupt(IMAGE, name, level, key, seed)).all()


@pytest.mark.parametrize("name", ["noise", "crop", "screenshots", "jpeg_resize"])
def test_another_seed_and_another_image_draw_otherwise(name: str) -> None:
    level = getattr(COMMITTED, name)[-1]
    images = [corrupt(IMAGE, name, level, key, seed) for key, seed in ((1, 0), (2, 0), (1, 1))]
    for other in images[1:]:
        assert images[0].shape != other.shape or (images[0] != other).any()


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("jpeg", (95, 70, 30)),
        ("webp", (95, 65, 30)),
        ("blur", (0.5, 1, 2)),
        ("noise", (0.01, 0.04, 0.08)),
        ("brightness", (0.9, 0.75, 0.5)),
    ],
)
def test_more_of_it_changes_an_image_more(name: str, levels: tuple[float, ...]) -> None:
    image = make_image(3, 64)
    errors = [error(corrupt(image, name, level, 1, 0), image) for level in levels]
    assert errors == sorted(errors)
    assert errors[0] > 0


@pytest.mark.parametrize(("level", "sides"), [(0.5, (24, 24)), (2.0, (96, 96)), (0.01, (8, 8))])
def test_resizing_multiplies_both_sides(level: float, sides: tuple[int, int]) -> None:
    assert corrupt(IMAGE, "resize", level, 1, 0).shape[:2] == sides


def test_a_crop_is_a_part_of_the_image() -> None:
    part = corrupt(IMAGE, "crop", 0.5, 1, 0)
    assert part.shape == (24, 24, 3)
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (24, 24, 3))
    assert (windows == part).all(axis=(-3, -2, -1)).any()


def test_brightness_multiplies_and_saturates() -> None:
    image = np.array([[[0, 100, 200]]], dtype=np.uint8)
    assert corrupt(image, "brightness", 1.5, 1, 0).tolist() == [[[0, 150, 255]]]


def test_noise_has_the_spread_that_is_asked_for() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    noisy = corrupt(grey, "noise", 0.04, 1, 0)
    assert noisy.std() == pytest.approx(0.04 * 255, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.1)


def test_jpeg_is_what_any_encoder_makes_of_it() -> None:
    # Pillow halves the resolution of the chroma too; the two differ in how they round.
    ours, theirs = corrupt(IMAGE, "jpeg", 60, 1, 0), decode(encode(IMAGE, quality=60))
    assert error(ours, theirs) < error(ours, IMAGE) / 5


def test_a_chain_is_its_links_one_after_the_other() -> None:
    numbers = np.random.default_rng(5)
    small = resize(IMAGE, 0.5, numbers)
    saved = jpeg(small, numbers.uniform(70, 95), numbers)
    assert (resize_jpeg(IMAGE, 0.5, np.random.default_rng(5)) == saved).all()
    shown = jpeg_resize(IMAGE, 90, np.random.default_rng(5))
    factor = np.random.default_rng(5).uniform(0.8, 1.25)
    assert (shown == resize(jpeg(IMAGE, 90, numbers), factor, numbers)).all()


def test_a_longer_chain_of_screenshots_begins_as_a_shorter_one() -> None:
    numbers = np.random.default_rng(5)
    step_by_step = IMAGE
    for _ in range(3):
        step_by_step = screenshots(step_by_step, 1, numbers)
    assert (step_by_step == screenshots(IMAGE, 3, np.random.default_rng(5))).all()
