"""Time and memory of the tables of a data set of ArtiFact's size, with synthetic contents.

python -m bench.tables [IMAGES]
"""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd

from src.duplicates import merged_groups
from src.measures import FloatArray
from src.schema import FAKE, REAL
from src.split import SplitParams, balanced_split

Result = TypeVar("Result")
SEED = 0
REALS, FAKES = 8, 25


def crowded_hashes(images: int, rng: np.random.Generator) -> list[str]:
    """Return hashes as crowded as those of aligned faces: few hidden causes, a common mean."""
    causes = rng.standard_normal((24, 64))
    mean = rng.standard_normal(64)
    hashes: list[str] = []
    for start in range(0, images, 100_000):
        count = min(100_000, images - start)
        waves: FloatArray = 3 * mean + rng.standard_normal((count, 24)) @ causes
        waves += 3 * rng.standard_normal(waves.shape)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        hashes += [row.tobytes().hex() for row in np.packbits(bits, axis=1)]
    return hashes


def make_metadata(images: int) -> pd.DataFrame:
    """Return rows of as many methods as ArtiFact has; one of them makes two thirds of the fakes."""
    rng = np.random.default_rng(SEED)
    weights = np.concatenate([np.full(REALS, 0.38 / REALS), np.full(FAKES, 0.2 / FAKES)])
    weights[REALS] += 0.42
    method = rng.choice(REALS + FAKES, images, p=weights)
    names = np.array([f"method{number:02d}" for number in range(REALS + FAKES)])
    image_id = [f"{names[m]}/images/img{i:07d}.jpg" for i, m in enumerate(method)]
    return pd.DataFrame(
        {
            "image_id": image_id,
            "method": names[method],
            "family": "other",
            "category": rng.choice(["face", "cat", "car", "room", "church", "object"], images),
            "label": np.where(method < REALS, REAL, FAKE),
            "group": image_id,
            "shard": "",
            "offset": 0,
            "length": 0,
            "key": rng.permutation(images).astype(np.uint64),
            "sha256": image_id,
            "perceptual_hash": crowded_hashes(images, rng),
        }
    )


def timed(what: str, function: Callable[[], Result]) -> Result:
    """Return what `function` returns, and print how long it took."""
    start = time.perf_counter()
    result = function()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {time.perf_counter() - start:.1f} s, {peak:.2f} GiB at most so far")
    return result


if __name__ == "__main__":
    metadata = make_metadata(int(sys.argv[1]) if len(sys.argv) > 1 else 2_500_000)
    groups = timed("near-duplicate groups", lambda: merged_groups(metadata, max_distance=4))
    print(f"largest group {groups.value_counts().max()}, {groups.nunique()} groups")
    for size in (100_000, None):
        params = SplitParams(
            images_per_class=size,
            test_fraction=0.2,
            val_fraction=0.1,
            fold=0,
            match_categories=True,
            honour_given_split=False,
            holdout_methods=(),
            seed=SEED,
        )
        drawn = timed(f"split of {size or 'all'}", partial(balanced_split, metadata, params))
        print(f"{len(drawn)} images drawn")
