from pathlib import Path

import cv2
import numpy as np
import pytest

from src.images.decode import decode
from src.images.shards import ShardReader
from src.inference.knn_distance import LEAST_SPREAD, scaled
from src.probes.appearance import appearance, appearances
from src.probes.features import radial_spectrum
from tests.helpers.make_data import make_image
from tests.helpers.make_training import make_split


def test_it_is_the_shorter_side_and_the_finer_rings_of_the_spectrum() -> None:
    picture = make_image(0, 128)[:, :64]
    found = appearance(picture)
    assert found.shape == (25,)
    assert found[0] == 6
    assert found[1:] == pytest.approx(radial_spectrum(picture)[8:])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (3, 2, 3)])
def test_any_picture_has_one(shape: tuple[int, ...]) -> None:
    assert np.isfinite(appearance(np.zeros(shape, np.uint8))).all()


def test_blur_takes_fine_detail_but_not_the_size() -> None:
    picture = make_image(0, 96)
    blurred = appearance(np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0)))
    assert blurred[0] == appearance(picture)[0]
    assert (blurred[9:] < appearance(picture)[9:] - 1).all()


def test_those_of_shards_are_those_of_the_images_in_their_order(tmp_path: Path) -> None:
    table = make_split(tmp_path / "raw").iloc[::-1]
    found = appearances(table, tmp_path / "raw", "appearance")
    reader = ShardReader(tmp_path / "raw")
    for row, image in zip(table.itertuples(), found, strict=True):
        data = reader.read(str(row.shard), int(str(row.offset)), int(str(row.length)))
        assert (appearance(decode(data)) == image).all()


def test_a_spread_of_nothing_is_not_divided_by() -> None:
    known = np.full((5, 25), 3, np.float32)
    assert scaled(known + 1, known)[0, 0] - scaled(known, known)[0, 0] == pytest.approx(
        1 / LEAST_SPREAD, rel=1e-5
    )


def test_the_size_weighs_as_much_as_all_rings_together() -> None:
    known = np.random.default_rng(0).normal(size=(50, 25)).astype(np.float32)
    moved = scaled(known + known.std(0), known) - scaled(known, known)
    assert moved[0, 0] == pytest.approx(np.linalg.norm(moved[0, 1:]), rel=1e-4)
