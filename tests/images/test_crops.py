import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.images.crops import GridCrops, View, fit_image
from tests.helpers.make_data import make_image

VIEW = View(size=16, resize=False)


@given(height=st.integers(16, 50), width=st.integers(16, 50), per_side=st.integers(1, 4))
def test_grid_crops_cover_the_image_evenly(height: int, width: int, per_side: int) -> None:
    image = np.stack(np.broadcast_arrays(*np.ogrid[:height, :width], 0), axis=2).astype(np.uint8)
    crops = GridCrops(VIEW, per_side)(image)
    assert crops.shape == (per_side**2, 16, 16, 3)
    corners = crops[:, 0, 0, :2].reshape(per_side, per_side, 2).astype(int)
    slack = np.array([height, width]) - 16
    if per_side == 1:
        assert (corners[0, 0] == slack // 2).all()
    else:
        assert (corners[0, 0] == 0).all()
        assert (corners[-1, -1] == slack).all()


def test_a_small_image_is_mirrored_to_the_size_and_a_large_one_left_alone() -> None:
    small = make_image(0, 10)
    fitted = fit_image(small, VIEW)
    assert fitted.shape == (16, 16, 3)
    np.testing.assert_array_equal(fitted[3:13, 3:13], small)
    large = make_image(0, 20)
    assert fit_image(large, VIEW) is large


@pytest.mark.parametrize("shape", [(10, 30), (200, 33), (17, 16)])
def test_resizing_brings_the_short_side_to_the_size(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    assert min(fit_image(image, View(size=16, resize=True)).shape[:2]) == 16


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1)])
def test_of_a_line_of_pixels_the_middle_is_resized(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image.reshape(-1, 3)[19_984:20_016] = 200  # 32 in the middle
    fitted = fit_image(image, View(size=16, resize=True))
    assert sorted(fitted.shape) == [3, 16, 512]
    assert (fitted == 200).all()
