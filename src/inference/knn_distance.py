"""Features of training images -> the kNN distance of another image: is it out of distribution?"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.neighbors import NearestNeighbors

from src.core.arrays import Float32Array, FloatArray, IntArray
from src.core.cli import InputError
from src.core.files import replacing

_DIGITS = 6  # of a distance: what lies below is noise of the hardware
_KEY = "scoring"  # two keys of metadata would come out in random order


class KnnIndex(NamedTuple):
    """Features of training images, and what must not differ when an image is compared."""

    features: NDArray[np.float16]  # (images, width), each of length 1
    crops_per_side: int  # see images.GridCrops
    neighbours: int  # the distance is that of the furthest of so many nearest images


def to_unit_length(features: Float32Array) -> Float32Array:
    """Return `features`, shape (n, width), scaled to length 1: directions carry the meaning."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Float32Array = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled


def nearest(index: KnnIndex, features: Float32Array) -> tuple[FloatArray, IntArray]:
    """Return distances and positions of the nearest images of `index`, (n, neighbours) each.

    Distances are Euclidean, in [0, 2], between features of length 1; the nearest comes first.

    Source: Sun, Ming, Zhu and Li 2022, Out-of-Distribution Detection with Deep Nearest Neighbors
    (ICML); the last of the distances is their score.
    """
    search = NearestNeighbors(n_neighbors=index.neighbours, algorithm="brute")
    search.fit(index.features.astype(np.float32))
    distances, positions = search.kneighbors(to_unit_length(features))
    return distances.astype(np.float64).round(_DIGITS), positions.astype(np.int64)


def save_knn_index(index: KnnIndex, path: Path) -> None:
    """Write `index`, which `load_knn_index` reads.

    Raises:
        OSError: it cannot be written (a full disk).
    """
    scoring = {name: getattr(index, name) for name in ("crops_per_side", "neighbours")}
    with replacing(path) as temporary:
        save_file({"features": index.features}, temporary, {_KEY: json.dumps(scoring)})


def load_knn_index(path: Path) -> KnnIndex:
    """Return the index at `path`.

    Raises:
        InputError: it is damaged, or not one of ours.
    """
    try:
        with safe_open(path, "numpy") as file:
            scoring = json.loads((file.metadata() or {})[_KEY])
            return KnnIndex(file.get_tensor("features"), **scoring)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no kNN index: {error}") from error
