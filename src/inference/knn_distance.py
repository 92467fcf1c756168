"""Training images -> which are nearest to another, and is that one out of distribution?"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.neighbors import NearestNeighbors

from src.core.arrays import Float32Array, FloatArray, IntArray
from src.core.cli import InputError
from src.core.files import replacing

_DIGITS = 6  # of a distance: what lies below is noise of the hardware
# A size and a ring of which training has one value alone: octaves, and log power.
LEAST_SPREAD = 0.1
_KEY = "scoring"  # two keys of metadata would come out in random order


class KnnIndex(NamedTuple):
    """What is known of training images, and what must not differ when an image is compared."""

    features: NDArray[np.float16]  # (images, width), each of length 1
    crops_per_side: int  # see images.GridCrops
    neighbours: int  # the distance is that of the furthest of so many nearest images
    appearances: Float32Array  # (images, 25): see appearance.py


def to_unit_length(features: Float32Array) -> Float32Array:
    """Return `features`, shape (n, width), scaled to length 1: directions carry the meaning."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Float32Array = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def nearest(index: KnnIndex, features: Float32Array) -> tuple[FloatArray, IntArray]:
    """Return distances and positions of what the detector sees as alike, (n, neighbours) each.

    Distances are Euclidean, in [0, 2], between features of length 1; the nearest comes first.
    """
    return _nearest(index.features.astype(np.float32), to_unit_length(features), index.neighbours)


def ood_distances(index: KnnIndex, appearances: Float32Array) -> FloatArray:
    """Return how far images are from the training images in `appearances`, (n, 25), shape (n,).

    Source: Sun, Ming, Zhu and Li 2022, Out-of-Distribution Detection with Deep Nearest Neighbors
    (ICML): the distance of the k-th nearest; they take the network's features.
    """
    known, images = (scaled(each, index.appearances) for each in (index.appearances, appearances))
    return _nearest(known, images, index.neighbours)[0][:, -1]


def scaled(appearance: Float32Array, known: Float32Array) -> Float32Array:
    """Return `appearance`, (n, 25), in spreads of `known`; the size counts as all rings do."""
    spread = np.maximum(known.std(axis=0, dtype=np.float64), LEAST_SPREAD)
    weights = np.full(known.shape[1], (known.shape[1] - 1) ** -0.5)
    weights[0] = 1.0
    compared: Float32Array = (appearance * (weights / spread)).astype(np.float32)
    return compared


def _nearest(
    known: Float32Array, images: Float32Array, neighbours: int
) -> tuple[FloatArray, IntArray]:
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(known)
    distances, positions = search.kneighbors(images)
    return distances.astype(np.float64).round(_DIGITS), positions.astype(np.int64)


def save_knn_index(index: KnnIndex, path: Path) -> None:
    """Write `index`, which `load_knn_index` reads.

    Raises:
        OSError: it cannot be written (a full disk).
    """
    scoring = {name: getattr(index, name) for name in ("crops_per_side", "neighbours")}
    with replacing(path) as temporary:
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(index, name) for name in ("features", "appearances")
        }
        save_file(arrays, temporary, {_KEY: json.dumps(scoring)})


def load_knn_index(path: Path) -> KnnIndex:
    """Return the index at `path`.

    Raises:
        InputError: it is damaged, or not one of ours.
    """
    try:
        with safe_open(path, "numpy") as file:
            scoring = json.loads((file.metadata() or {})[_KEY])
            arrays = {name: file.get_tensor(name) for name in ("features", "appearances")}
            return KnnIndex(**arrays, **scoring)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no kNN index: {error}") from error
