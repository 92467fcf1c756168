import numpy as np
import pandas as pd
import pytest

from src.probes.features import file_features, pixel_features, radial_spectrum
from tests.helpers.make_data import make_image


def wave(cycles_per_pixel: float, height: int = 128, width: int = 128) -> np.ndarray:
    luma = 128 + 100 * np.sin(2 * np.pi * cycles_per_pixel * np.arange(width))
    return np.repeat(np.tile(luma, (height, 1))[..., np.newaxis], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("cycles", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("size", [(128, 128), (100, 180), (700, 900)])
def test_a_wave_is_in_its_ring(cycles: float, size: tuple[int, int]) -> None:
    # A transform knows only multiples of 1 / side: the wave may fall into the ring beside.
    assert abs(np.argmax(radial_spectrum(wave(cycles, *size))) - int(cycles * 2 * 32)) <= 1


def test_noise_has_a_flat_spectrum() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 1), dtype=np.uint8)
    assert np.ptp(radial_spectrum(np.repeat(noise, 3, axis=2))[2:]) < 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 30), (8, 8)])
def test_flat_and_tiny_images_have_finite_features(shape: tuple[int, int]) -> None:
    features = pixel_features(np.full((*shape, 3), 9, np.uint8))
    assert features.mean_colour.tolist() == [9, 9, 9]
    assert (features.thumbnail == 9).all()
    np.testing.assert_allclose(features.spectrum, 0, atol=1e-9)


def test_shapes() -> None:
    features = pixel_features(make_image(0, 50))
    assert [part.shape for part in features] == [(3,), (192,), (32,)]


def test_file_features_number_the_formats_by_name() -> None:
    images = pd.DataFrame({"format": ["png", "jpeg", "png"], "length": [1, 2, 3]})
    for column in ("bytes_per_pixel", "width", "height", "jpeg_quality"):
        images[column] = 5
    assert file_features(images)["format"].ravel().tolist() == [1, 0, 1]
    assert file_features(images)["length"].shape == (3, 1)
