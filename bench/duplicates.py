"""What grouping the near-duplicates of 2.5 million images costs, against comparing all pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bench.results import Figure, Outcome, at_least, at_most
from bench.tables import METADATA, ROWS, crowded_hashes
from bench.timing import cost_of, in_child, installed
from src.core.arrays import IndexArray, UInt64Array
from src.core.hashing import image_keys
from src.dataset.near_duplicates import hash_clusters, merged_groups

# Of which all pairs are compared: their time, that grows with the square, is extrapolated.
SAMPLE = 20_000
DISTANCE = METADATA["max_hash_distance"]


def run(scale: float, folder: Path) -> Outcome:  # noqa: ARG001 - needs no files
    """Group synthetic hashes that are as crowded as those of faces, and check a sample."""
    rows = max(2000, round(ROWS * scale))
    sample = min(SAMPLE, rows)
    (groups, largest, wall, cpu), cost = in_child(group, rows)
    factor = (rows / sample) ** 2
    hashes = crowded_hashes(sample)
    all_pairs = cost_of(lambda: brute_force(hashes)).cpu * factor
    faiss = cost_of(lambda: with_faiss(hashes)).cpu * factor if installed("faiss") else None
    if not same_partition(brute_force(hashes), hash_clusters(hashes, DISTANCE)):
        raise AssertionError("groups differ from those of comparing all pairs")
    extrapolated = f"extrapolated from {sample:,} hashes"
    return Outcome(
        [
            Figure("processor time", "", cpu, at_most(300, "s")),
            Figure("memory", "", cost.gigabytes, at_most(4, "GB")),
            Figure("time", f"numpy, all pairs, {extrapolated}", all_pairs / cpu, at_least(1)),
            Figure(
                "time",
                f"faiss IndexBinaryFlat, {extrapolated}",
                None if faiss is None else faiss / cpu,
                at_least(1),
            ),
        ],
        {"groups": groups, "largest": largest, "rows": rows, "wall_seconds": wall},
        ("faiss-cpu", "numpy", "scipy"),
    )


def group(rows: int) -> tuple[int, int, float, float]:
    """Return how many groups there are, the largest, and the seconds that finding them took."""
    names = pd.Series([f"{number:07d}" for number in range(rows)])
    hashes = [f"{value:016x}" for value in crowded_hashes(rows).tolist()]
    columns = {"image_id": names, "group": names, "sha256": names, "perceptual_hash": hashes}
    images = pd.DataFrame(columns).assign(key=image_keys(names))
    found: list[pd.Series] = []
    cost = cost_of(lambda: found.append(merged_groups(images, DISTANCE)))
    sizes = found[0].value_counts()
    return len(sizes), int(sizes.max()), cost.wall, cost.cpu


def brute_force(hashes: UInt64Array) -> IndexArray:
    """Return the cluster of each hash, all pairs compared."""
    left, right = [], []
    for number, value in enumerate(hashes):
        close = np.flatnonzero(np.bitwise_count(hashes[number + 1 :] ^ value) <= DISTANCE)
        left.append(np.full(len(close), number))
        right.append(close + number + 1)
    return _components(len(hashes), np.concatenate(left), np.concatenate(right))


def with_faiss(hashes: UInt64Array) -> IndexArray:
    """Return the same with faiss on one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    rows = hashes.view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryFlat(64)
    index.add(rows)
    limits, _, right = index.range_search(rows, DISTANCE + 1)  # it wants less than that
    found: IndexArray = np.asarray(limits[1:] - limits[:-1], dtype=np.int64)
    left = np.repeat(np.arange(len(hashes)), found)
    return _components(len(hashes), left, right)


def _components(size: int, left: IndexArray, right: IndexArray) -> IndexArray:
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    labels: IndexArray = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def same_partition(one: IndexArray, other: IndexArray) -> bool:
    """Return whether two numberings of clusters mean the same clusters."""
    pairs = pd.DataFrame({"one": one, "other": other}).drop_duplicates()
    return bool(pairs["one"].is_unique and pairs["other"].is_unique)
