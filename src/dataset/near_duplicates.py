"""Checksums and perceptual hashes -> groups of images that must stay on one side of a split."""

from collections.abc import Iterator
from itertools import chain, combinations, count, pairwise
from math import comb

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from src.core.arrays import IndexArray, UInt64Array
from src.core.hashing import group_keys

Piece = tuple[int, int]  # bits of a hash, from the first to before the second

_BITS = 64
# What comparing costs beside sorting, for hashes of one kind of photograph: those crowd, so that
# some thirty times as many agree in 21 bits as of hashes drawn evenly.
_CROWDING = 16
_PAIRS_AT_ONCE = 4_000_000


def merged_groups(images: pd.DataFrame, max_distance: int) -> pd.Series:
    """Return the group of each row of `images`: the smallest `image_id` in it.

    Two images are in one group if they share `group`, or `sha256`, or if their `perceptual_hash`
    (16 hexadecimal digits; empty: matches nothing) differs in at most `max_distance` bits, or
    through others that do. The result does not depend on the order of the rows. `key` is that of
    `image_id`.
    """
    hashed = (images["perceptual_hash"] != "").to_numpy()
    clusters = hash_clusters(_to_integers(images["perceptual_hash"][hashed]), max_distance)
    edges = [_edges(np.flatnonzero(hashed), clusters)]
    for keys in (group_keys(images), content_keys(images)):
        edges.append(_edges(np.arange(len(images)), np.unique(keys, return_inverse=True)[1]))
    labels = _components(len(images), *_concatenated(edges))
    # Not pandas' own `argsort`: it makes an object of every name.
    order = pc.sort_indices(pa.array(images["image_id"])).to_numpy().astype(np.int32)
    smallest = np.empty_like(order)
    smallest[order] = order[_first_of_each(labels[order])]
    groups = images["image_id"].copy()  # of most, who are alone
    others = np.flatnonzero(smallest != np.arange(len(images)))
    groups.iloc[others] = groups.iloc[smallest[others]].to_numpy()
    return groups.rename("group")


def content_keys(images: pd.DataFrame) -> UInt64Array:
    """Return the first 64 bits of each `sha256`: enough to distinguish millions of files."""
    return _to_integers(images["sha256"])


def _to_integers(texts: pd.Series) -> UInt64Array:
    """Return the first 16 hexadecimal digits of each."""
    return np.fromiter((int(text[:16], 16) for text in texts), np.uint64, len(texts))


def _edges(rows: IndexArray, codes: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Return edges that join the rows of each code; most are alone, and have none."""
    first = _first_of_each(codes)
    joined = np.flatnonzero(first != np.arange(len(codes)))
    return rows[joined], rows[first[joined]]


def _first_of_each(codes: IndexArray) -> IndexArray:
    """Return for each element of `codes`, 0, 1, 2, ..., where its code stands first."""
    places = np.full(codes.max(initial=-1) + 1, len(codes), np.int32)
    np.minimum.at(places, codes, np.arange(len(codes), dtype=np.int32))
    return places[codes]


def hash_clusters(hashes: UInt64Array, max_distance: int) -> IndexArray:
    """Return a cluster number for each hash; chains of hashes within `max_distance` share one.

    Exact: no pair is missed. Two hashes that differ in at most d of m pieces agree in at least
    m - d, so it is enough to compare those that agree in some choice of m - d pieces.

    Source: Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing".
    """
    unique, inverse = np.unique(hashes, return_inverse=True)
    pairs = chain.from_iterable(
        _close_pairs(unique, agreeing, others, max_distance)
        for agreeing, others in _choices(len(unique), max_distance)
    )
    labels: IndexArray = np.arange(len(unique), dtype=np.int32)
    for left, right in _pooled(pairs):
        labels = _components(len(unique), labels[left], labels[right])[labels]
    return labels[inverse]


def _choices(hashes: int, max_distance: int) -> Iterator[tuple[list[Piece], list[Piece]]]:
    """Yield the pieces that have to agree, and the others, for each choice of them."""

    def cost(pieces: int) -> float:  # more pieces: more choices, but fewer pairs to compare in each
        agreeing = _BITS * (pieces - max_distance) // pieces
        return comb(pieces, max_distance) * (1 + _CROWDING * hashes / (1 << agreeing))

    number = min(range(max_distance + 1, max_distance + 8), key=cost)
    pieces = list(pairwise(_BITS * piece // number for piece in range(number + 1)))
    for agreeing in combinations(pieces, number - max_distance):
        yield list(agreeing), [piece for piece in pieces if piece not in agreeing]


def _close_pairs(
    hashes: UInt64Array, agreeing: list[Piece], others: list[Piece], max_distance: int
) -> Iterator[tuple[IndexArray, IndexArray]]:
    """Yield all pairs of indices that agree in some pieces and differ in few bits of the others.

    `hashes` are sorted and unique. Their bits are permuted so that the agreeing pieces come first:
    sorted anew, hashes that agree in them are neighbours.
    """
    pieces = [*agreeing, *others]
    ordered = np.sort(_permuted(hashes, pieces))  # without indices: three times as fast
    back = _inverse(pieces)
    limit = np.uint64(1 << sum(high - low for low, high in others))

    def find(positions: IndexArray) -> IndexArray:
        return np.searchsorted(hashes, _permuted(ordered[positions], back))

    left = np.flatnonzero(ordered[1:] ^ ordered[:-1] < limit)
    # Neighbours first, then neighbours but one, ...: memory stays that of one step whatever the
    # size of the buckets, and only buckets that are large enough take part in a later step.
    for step in count(1):
        left = left[: np.searchsorted(left, len(hashes) - step)]
        difference = ordered[left] ^ ordered[left + step]
        agree = difference < limit
        left, difference = left[agree], difference[agree]
        if not len(left):
            return
        close = left[np.bitwise_count(difference) <= max_distance]
        yield find(close), find(close + step)


def _permuted(hashes: UInt64Array, pieces: list[Piece]) -> UInt64Array:
    """Return `hashes` with these pieces of their bits one after the other, the highest first."""
    permuted = np.zeros_like(hashes)
    high = _BITS
    for low, end in pieces:
        high -= end - low
        mask = np.uint64((1 << (end - low)) - 1)
        permuted |= (hashes >> np.uint64(low) & mask) << np.uint64(high)
    return permuted


def _inverse(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces by which `_permuted` undoes a permutation by `pieces`."""
    moved: list[tuple[Piece, Piece]] = []
    high = _BITS
    for low, end in pieces:
        moved.append(((low, end), (high - (end - low), high)))
        high -= end - low
    return [target for _, target in sorted(moved, reverse=True)]


def _pooled(
    pairs: Iterator[tuple[IndexArray, IndexArray]],
) -> Iterator[tuple[IndexArray, IndexArray]]:
    # One component search for many small steps, but never for more than memory holds.
    waiting: list[tuple[IndexArray, IndexArray]] = []
    size = 0
    for pair in pairs:
        waiting.append(pair)
        size += len(pair[0])
        if size >= _PAIRS_AT_ONCE:
            yield _concatenated(waiting)
            waiting, size = [], 0
    if size:
        yield _concatenated(waiting)


def _concatenated(pairs: list[tuple[IndexArray, IndexArray]]) -> tuple[IndexArray, IndexArray]:
    left, right = zip(*pairs, strict=True)
    return np.concatenate(left), np.concatenate(right)


def _components(size: int, left: IndexArray, right: IndexArray) -> IndexArray:
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    labels: IndexArray = connected_components(graph, directed=False)[1]
    return labels
