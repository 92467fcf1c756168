"""Checksums and perceptual hashes -> groups of images that must stay on one side of a split."""

from collections.abc import Iterator
from itertools import combinations, count, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

UInt64Array = NDArray[np.uint64]
IntArray = NDArray[np.int64]

_BITS = 64
# Bits that two hashes share before they are compared: at millions of hashes a bucket then holds
# a handful, and a few hundred where photographs of one kind crowd.
_MIN_SHARED_BITS = 21
_PAIRS_AT_ONCE = 4_000_000


def merged_groups(images: pd.DataFrame, max_distance: int) -> pd.Series:
    """Return the group of each row of `images`: the smallest `image_id` in it.

    Two images are in one group if they share `group`, or `sha256`, or if their `perceptual_hash`
    (16 hexadecimal digits; empty: matches nothing) differs in at most `max_distance` bits, or
    through others that do. The result does not depend on the order of the rows.
    """
    images = images.sort_values("image_id")
    hashed = images["perceptual_hash"].to_numpy() != ""
    clusters = np.full(len(images), -1)
    clusters[hashed] = hash_clusters(_to_integers(images["perceptual_hash"][hashed]), max_distance)
    codes = [pd.factorize(images[column])[0] for column in ("group", "sha256")]
    labels = _join([*codes, clusters])
    first = np.unique(labels, return_index=True)[1]  # rows are in order of image_id
    return images["image_id"].iloc[first[labels]].set_axis(images.index)


def _to_integers(hashes: pd.Series) -> UInt64Array:
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def _join(partitions: list[IntArray]) -> IntArray:
    """Return the finest partition that is coarser than all; -1 stands for a part of its own."""
    size = len(partitions[0])
    edges = []
    for codes in partitions:
        rows = np.flatnonzero(codes >= 0)
        _, first, inverse = np.unique(codes[rows], return_index=True, return_inverse=True)
        edges.append((rows, rows[first[inverse]]))
    return _components(size, *_concatenated(edges))


def hash_clusters(hashes: UInt64Array, max_distance: int) -> IntArray:
    """Return a cluster number for each hash; chains of hashes within `max_distance` share one.

    Exact: no pair is missed. Two hashes that differ in at most d of m pieces agree in at least
    m - d, so it is enough to compare those that agree in some choice of m - d pieces.

    Source: Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing".
    """
    unique, inverse = np.unique(hashes, return_inverse=True)
    labels: IntArray = np.arange(len(unique))
    for mask in _masks(max_distance):
        for left, right in _pooled(_close_pairs(unique, mask, max_distance)):
            labels = _components(len(unique), labels[left], labels[right])[labels]
    return labels[inverse]


def _masks(max_distance: int) -> Iterator[np.uint64]:
    pieces = next(
        m for m in count(max_distance + 1) if _BITS * (m - max_distance) // m >= _MIN_SHARED_BITS
    )
    edges = [_BITS * piece // pieces for piece in range(pieces + 1)]
    masks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    for chosen in combinations(masks, pieces - max_distance):
        yield np.uint64(sum(chosen))


def _close_pairs(
    hashes: UInt64Array, mask: np.uint64, max_distance: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield all pairs of indices that agree in `mask` and differ in at most `max_distance` bits."""
    keys = hashes & mask
    order = np.argsort(keys)
    keys, ordered = keys[order], hashes[order]
    left: IntArray = np.arange(len(hashes))
    # Neighbours first, then neighbours but one, ...: memory stays that of one step whatever the
    # size of the buckets, and only buckets that are large enough take part in a later step.
    for step in count(1):
        left = left[: np.searchsorted(left, len(hashes) - step)]
        left = left[keys[left] == keys[left + step]]
        if not len(left):
            return
        close = left[np.bitwise_count(ordered[left] ^ ordered[left + step]) <= max_distance]
        yield order[close], order[close + step]


def _pooled(pairs: Iterator[tuple[IntArray, IntArray]]) -> Iterator[tuple[IntArray, IntArray]]:
    # One component search for many small steps, but never for more than memory holds.
    waiting: list[tuple[IntArray, IntArray]] = []
    size = 0
    for pair in pairs:
        waiting.append(pair)
        size += len(pair[0])
        if size >= _PAIRS_AT_ONCE:
            yield _concatenated(waiting)
            waiting, size = [], 0
    if size:
        yield _concatenated(waiting)


def _concatenated(pairs: list[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    left, right = zip(*pairs, strict=True)
    return np.concatenate(left), np.concatenate(right)


def _components(size: int, left: IntArray, right: IntArray) -> IntArray:
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)
