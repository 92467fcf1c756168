import numpy as np

from src.core.arrays import FloatArray
from src.explanation.occlusion import FAKE_COLOUR, REAL_COLOUR, occlusion, paint
from src.images.crops import Crops, GridCrops, View
from src.images.decode import RGBImage


class Corner:
    """Takes brightness in the upper left quarter for a sign of fake."""

    crops = 0

    def __call__(self, crops: Crops) -> FloatArray:
        self.crops += len(crops)
        size = crops.shape[1] // 2
        fake = crops[:, :size, :size].mean((1, 2, 3))
        return np.stack([np.zeros_like(fake), fake], 1)


def image_with_a_bright_corner(size: int) -> RGBImage:
    image = np.zeros((size, size, 3), dtype=np.uint8)
    image[: size // 4, : size // 4] = 255
    return image


def test_the_part_that_decides_is_hot_and_the_rest_is_not() -> None:
    image = image_with_a_bright_corner(32)
    before = image.copy()
    heat = occlusion(image, GridCrops(View(32, resize=False), 1), Corner(), 4)

    assert heat.shape == (4, 4)
    assert heat.argmax() == 0
    assert heat[0, 0] > 0
    # Painted with the mean, what was black looks brighter: it had spoken against.
    assert (heat[:2, :2].ravel()[1:] < 0).all()
    assert (heat[2:] == 0).all()
    np.testing.assert_array_equal(image, before)


def test_only_crops_that_a_part_touches_are_computed_again() -> None:
    detect = Corner()
    crop = GridCrops(View(16, resize=False), 2)  # four crops that tile 32 x 32
    occlusion(image_with_a_bright_corner(32), crop, detect, 2)
    assert detect.crops == 4 + 4 * 1


def test_an_image_of_odd_size_is_covered_whole() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    heat = occlusion(image, GridCrops(View(16, resize=True), 3), Corner(), 5)
    assert (heat != 0).any()
    assert np.isfinite(heat).all()


def test_colours_tell_the_classes_apart_and_a_cold_map_is_grey() -> None:
    image = np.full((40, 60, 3), 128, dtype=np.uint8)
    picture = np.asarray(paint(image, np.array([[1.0, -1.0]]), 60), dtype=int)
    for column, colour in ((0, FAKE_COLOUR), (-1, REAL_COLOUR)):
        distances = [
            np.abs(picture[20, column] - other).sum() for other in (FAKE_COLOUR, REAL_COLOUR)
        ]
        assert (distances[0] < distances[1]) == (colour == FAKE_COLOUR)
    np.testing.assert_array_equal(np.asarray(paint(image, np.zeros((3, 3)), 60)), image)


def test_large_images_are_shrunk() -> None:
    assert paint(np.zeros((50, 200, 3), dtype=np.uint8), np.zeros((2, 2)), 100).size == (100, 25)
