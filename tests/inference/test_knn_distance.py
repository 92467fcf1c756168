from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from src.core.cli import InputError
from src.inference.knn_distance import (
    KnnIndex,
    load_knn_index,
    nearest,
    ood_distances,
    save_knn_index,
    scaled,
    to_unit_length,
)
from tests.helpers.full_disk import limited_files


def make_index(neighbours: int = 2) -> KnnIndex:
    features = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    appearances = np.random.default_rng(1).normal(7, 1, (20, 25)).astype(np.float32)
    return KnnIndex(to_unit_length(features).astype(np.float16), 3, neighbours, appearances)


def test_distances_are_those_worked_by_hand() -> None:
    known = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float16)
    index = KnnIndex(known, 1, 3, np.zeros((3, 25), np.float32))
    distances, positions = nearest(index, np.array([[5, 0]], dtype=np.float32))

    assert positions.tolist() == [[0, 1, 2]]
    assert distances[0] == pytest.approx([0, np.sqrt(2), 2])


def test_a_full_disk_leaves_no_half_of_an_index(tmp_path: Path) -> None:
    with limited_files(100), pytest.raises(OSError, match=r"File too large: .*k\.safetensors"):
        save_knn_index(make_index(), tmp_path / "k.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_training_image_lies_at_no_distance_whatever_its_length() -> None:
    index = make_index()
    features = 7 * index.features.astype(np.float32)
    distances, positions = nearest(index, features)

    assert positions[:, 0].tolist() == list(range(20))
    assert distances[:, 0].max() < 1e-3
    assert (distances[:, 1] > distances[:, 0]).all()


def test_features_of_nothing_have_a_direction_too() -> None:
    assert np.isfinite(nearest(make_index(), np.zeros((1, 8), dtype=np.float32))[0]).all()


def test_an_image_is_out_of_distribution_by_the_furthest_of_its_neighbours() -> None:
    index = make_index(neighbours=2)
    known = scaled(index.appearances, index.appearances)
    apart = np.sort(np.linalg.norm(known[:, None] - known, axis=2), axis=1)
    assert ood_distances(index, index.appearances) == pytest.approx(apart[:, 1], abs=1e-5)


def test_a_training_set_of_one_size_does_not_know_another() -> None:
    index = make_index()
    index.appearances[:, 0] = np.log2(200)
    there = ood_distances(index, index.appearances).max()
    elsewhere = index.appearances.copy()
    elsewhere[:, 0] = np.log2(400)
    assert (ood_distances(index, elsewhere) > there + 1).all()


def test_what_is_saved_is_read_and_two_files_are_equal(tmp_path: Path) -> None:
    index = make_index()
    for name in ("one", "two"):
        save_knn_index(index, tmp_path / name)
    loaded = load_knn_index(tmp_path / "one")

    np.testing.assert_array_equal(loaded.features, index.features)
    np.testing.assert_array_equal(loaded.appearances, index.appearances)
    assert loaded[1:3] == index[1:3]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"nothing")
    save_file({"features": np.zeros((1, 1))}, tmp_path / "foreign")
    for name in ("broken", "foreign"):
        with pytest.raises(InputError, match=f"{name} is no kNN index"):
            load_knn_index(tmp_path / name)
