import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from src.images.crops import View
from src.training.augmentation import Augmentation, AugmentParams
from tests.helpers.make_data import make_image
from tests.helpers.make_training import AUGMENT, PLAIN

VIEW = View(size=24, resize=False)
IMAGE = make_image(0, 40)
EVERYTHING = replace(
    AUGMENT,
    flip=1.0,
    rotate=1.0,
    blur=1.0,
    noise=1.0,
    brightness_contrast=1.0,
    rescale=1.0,
    jpeg=1.0,
    webp=1.0,
)
NOTHING = replace(PLAIN, flip=0)

keys = st.integers(0, 2**64 - 1)


@settings(max_examples=20)
@given(key=keys, epoch=st.integers(0, 1000), seed=st.integers(0, 2**63 - 1))
def test_a_draw_depends_on_seed_epoch_and_image_alone(key: int, epoch: int, seed: int) -> None:
    used = Augmentation(AUGMENT, VIEW, seed)
    used(make_image(1, 40), 3, 77)  # no stream from sample to sample
    fresh = Augmentation(AUGMENT, VIEW, seed)
    np.testing.assert_array_equal(used(IMAGE, epoch, key), fresh(IMAGE, epoch, key))


def test_seeds_epochs_and_images_draw_differently() -> None:
    drawn = [
        Augmentation(AUGMENT, VIEW, seed)(IMAGE, epoch, key).tobytes()
        for seed, epoch, key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize("params", [AUGMENT, EVERYTHING, NOTHING])
@pytest.mark.parametrize("shape", [(40, 40), (24, 24), (10, 60), (7, 7)])
def test_any_image_becomes_one_crop(
    resize: bool, params: AugmentParams, shape: tuple[int, int]
) -> None:
    view = View(size=24, resize=resize)
    image = np.ascontiguousarray(make_image(0, 60)[: shape[0], : shape[1]])
    crops = Augmentation(params, view, 0)(image, 0, 0)
    assert crops.shape == (1, 24, 24, 3)
    assert crops.dtype == np.uint8
    assert crops.flags["C_CONTIGUOUS"]


def test_without_augmentation_a_native_crop_is_a_window() -> None:
    crop = Augmentation(NOTHING, VIEW, 0)(IMAGE, 0, 5)[0]
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (24, 24), axis=(0, 1))
    assert (windows.transpose(0, 1, 3, 4, 2) == crop).all((2, 3, 4)).sum() == 1


def test_what_is_switched_on_leaves_geometry_alone() -> None:
    moved = replace(NOTHING, flip=0.5, quarter_turns=0.75)
    noisy = replace(moved, noise=1.0, noise_std=(0.001, 0.001))
    for key in range(20):
        plain, other = (Augmentation(p, VIEW, 0)(IMAGE, 0, key).astype(int) for p in (moved, noisy))
        assert 0 < abs(plain - other).max() <= 2


def test_the_caller_keeps_the_image() -> None:
    before = IMAGE.copy()
    Augmentation(EVERYTHING, VIEW, 0)(IMAGE, 0, 0)
    np.testing.assert_array_equal(IMAGE, before)


def test_flips_and_turns_only_move_pixels() -> None:
    params = replace(NOTHING, flip=0.5, quarter_turns=1.0)
    square = np.ascontiguousarray(IMAGE[:24, :24])
    seen = {Augmentation(params, VIEW, 0)(square, 0, key).tobytes() for key in range(100)}
    symmetries = {
        np.ascontiguousarray(np.rot90(image, turns)).tobytes()
        for image in (square, square[:, ::-1])
        for turns in range(4)
    }
    assert seen == symmetries


@pytest.mark.parametrize(
    ("key", "value"),
    [("flip", 1.5), ("jpeg_quality", (90, 70)), ("jpeg_quality", (0, 70)), ("min_area", 0.0)],
)
def test_a_value_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        TypeAdapter(AugmentParams).validate_json(json.dumps({**vars(AUGMENT), key: value}))
