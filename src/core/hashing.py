"""Random draws without a random generator: every image has a rank that depends on it alone.

A draw of n is the n smallest ranks. It does not depend on the order of the rows, on the file
system or on how many others are drawn, and a larger draw contains the smaller one.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.arrays import UInt64Array


def image_key(image_id: str) -> int:
    """Return the 64-bit key of an image: the first 8 bytes of blake2b of its identity."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "big")


def image_keys(image_ids: Iterable[str]) -> UInt64Array:
    """Return the keys of many images, shape (n,), uint64."""
    return np.fromiter((image_key(image_id) for image_id in image_ids), dtype=np.uint64)


def group_keys(images: pd.DataFrame) -> UInt64Array:
    """Return the key of each row's `group`, which has the name of an image; `key` is the image's.

    Most images are alone in their group and have its key already. Names of millions are compared
    as numbers in a fifth of the memory; that any two of 2.5 million groups have the same key, and
    count as one, has a probability of 2e-7.
    """
    keys = images["key"].to_numpy(copy=True)
    shared = (images["group"] != images["image_id"]).to_numpy()
    keys[shared] = image_keys(images["group"][shared])
    return keys


def count_distinct(keys: UInt64Array) -> int:
    """Return how many different keys there are."""
    # numpy's unique would put millions into a hash table: fifty times as long, and more memory.
    keys = np.sort(keys)
    return int(np.count_nonzero(keys[1:] != keys[:-1])) + min(1, len(keys))


def ranks(keys: UInt64Array, seed: int) -> UInt64Array:
    """Return one pseudo-random uint64 per key, a different permutation for every seed.

    Hashing is done once, in `image_key`; a seed only mixes the keys anew, so that a draw from
    millions of rows costs milliseconds.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).
    """
    mixed = keys ^ _mix(np.array([seed], dtype=np.uint64))
    return _mix(mixed)


def order_by_part(part: NDArray[np.integer], rank: UInt64Array) -> NDArray[np.intp]:
    """Return the order of elements by part, and by rank within it."""
    # A radix sort of few parts after a vectorised one: three times as fast as lexsort.
    order = np.argsort(rank)
    few = part[order].astype(np.min_scalar_type(part.max()))
    return order[np.argsort(few, kind="stable")]


def _mix(values: UInt64Array) -> UInt64Array:
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the definition
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
