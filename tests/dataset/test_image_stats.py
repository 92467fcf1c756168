"""Tests of src/dataset/image_stats.py."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from src.dataset.image_stats import (
    colourfulness,
    jpeg_quality,
    measure,
    perceptual_hash,
    sharpness,
    to_luma,
)
from src.images.decode import UndecodableImage
from tests.helpers.make_data import encode, make_image

Image8 = NDArray[np.uint8]


def bits_apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def picture(seed: int, size: int = 200) -> Image8:
    return make_image(seed, size, fake=True)


@pytest.mark.parametrize("quality", range(1, 101))
def test_quality_of_what_libjpeg_wrote(quality: int) -> None:
    assert measure(encode(make_image(0, 16), quality=quality)).jpeg_quality == quality


def test_quality_of_foreign_tables_is_the_nearest() -> None:
    standard = Image.open(io.BytesIO(encode(make_image(0, 16), quality=80)))
    table = [*standard.quantization[0][:-1], standard.quantization[0][-1] + 2]  # type: ignore[attr-defined]
    assert jpeg_quality({0: table}) == 80


def test_quality_without_tables_is_zero() -> None:
    assert measure(encode(make_image(0, 16), "png")).jpeg_quality == 0


def test_measures_by_hand() -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, 10:] = 255
    data = encode(pixels, "png")
    measures = measure(data)
    assert (measures.width, measures.height, measures.format) == (20, 10, "png")
    assert measures.bytes_per_pixel == round(len(data) / 200, 6)
    assert measures.brightness == 0.5
    assert measures.contrast == 0.5
    assert measures.colourfulness == 0.0
    # The Laplacian is 255 left of the edge, -255 right of it, 0 elsewhere: 2 of 20 columns.
    assert measures.sharpness == 255**2 * 2 / 20


def test_colourfulness_by_hand() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = (255, 0, 0)
    # rg is 255, 255, 0, 0 and yb half of it: deviations and means are 127.5 and 63.75.
    expected = np.hypot(127.5, 63.75) * 1.3
    assert colourfulness(pixels) == pytest.approx(expected)


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
def test_colourfulness_is_the_published_formula(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    r, g, b = pixels.astype(float).transpose(2, 0, 1)
    rg, yb = r - g, (r + g) / 2 - b
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert colourfulness(pixels) == pytest.approx(expected, abs=1e-6)


def test_blur_lowers_sharpness() -> None:
    image = Image.fromarray(make_image(3, 100))
    small = image.resize((50, 50)).resize((100, 100))
    assert sharpness(to_luma(np.array(small))) < sharpness(to_luma(np.array(image))) / 2


@pytest.mark.parametrize("seed", range(10))
def test_hash_survives_compression_resizing_and_brightness(seed: int) -> None:
    pixels = picture(seed)
    original = measure(encode(pixels, "png")).perceptual_hash
    image = Image.fromarray(pixels)
    copies = [
        measure(encode(pixels, quality=50)),
        measure(encode(np.array(image.resize((128, 128), Image.Resampling.LANCZOS)))),
        measure(encode(np.array(image.resize((500, 300), Image.Resampling.LANCZOS)))),
        measure(encode((pixels * 0.8).astype(np.uint8))),
    ]
    assert all(bits_apart(original, copy.perceptual_hash) <= 4 for copy in copies)


def test_other_pictures_have_other_hashes() -> None:
    hashes = [perceptual_hash(to_luma(picture(seed))) for seed in range(30)]
    apart = [bits_apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 8
    assert 30 < np.mean(apart) < 34


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_flat_picture_has_no_hash(level: int) -> None:
    assert perceptual_hash(np.full((50, 60), level, np.uint8)) == ""


def test_a_gradient_with_noise_has_no_hash() -> None:
    # A clear sky: one strong vertical wave, and nothing else but compression noise.
    sky = np.linspace(80, 220, 200)[:, np.newaxis, np.newaxis] * np.ones((200, 200, 3))
    assert measure(encode(sky.astype(np.uint8), quality=70)).perceptual_hash == ""


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 5), (8, 8)])
def test_tiny_images_are_measured(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    measures = measure(encode(pixels, "png"))
    assert (measures.height, measures.width) == shape


def test_damaged_images_are_refused() -> None:
    with pytest.raises(UndecodableImage):
        measure(encode(make_image(0))[:-50])
