"""Made-up tables of a data set of ArtiFact's kind: its methods, groups, hashes as crowded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.core.arrays import UInt64Array
from src.core.hashing import image_keys
from src.core.tables import FAKE, REAL

REALS, FAKES = 8, 25
ROWS = 2_500_000
SPLIT = {
    "images_per_class": 50_000,
    "test_fraction": 0.2,
    "val_fraction": 0.1,
    "fold": 0,
    "match_categories": True,
    "honour_given_split": False,
    "holdout_methods": [],
    "seed": 0,
}
METADATA = {"max_unreadable": 0, "max_contradictions": 0, "max_hash_distance": 4}


def write_params(folder: Path, **sections: Any) -> None:
    """Write params.yaml (JSON is YAML) with `sections`."""
    (folder / "params.yaml").write_text(json.dumps(sections), encoding="utf-8")


def crowded_hashes(rows: int) -> UInt64Array:
    """Return hashes as crowded as those of aligned faces: few hidden causes, a common mean."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((24, 64))
    mean = rng.standard_normal(64)
    hashes = []
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        waves = 3 * mean + rng.standard_normal((count, 24)) @ causes
        waves += 3 * rng.standard_normal(waves.shape)
        bits = waves > np.median(waves, axis=1, keepdims=True)
        hashes.append(np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64))
    return np.concatenate(hashes)


def make_index(rows: int) -> pd.DataFrame:
    """Return what download says of images; one of the methods makes two thirds of the fakes."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.full(REALS, 0.38 / REALS), np.full(FAKES, 0.2 / FAKES)])
    weights[REALS] += 0.42
    method = np.sort(rng.choice(REALS + FAKES, rows, p=weights))
    names = np.array([f"method{number:02d}" for number in range(REALS + FAKES)])
    label = np.where(method < REALS, REAL, FAKE)
    categories = np.array(["face", "cat", "car", "room", "church", "object"])
    number = np.arange(rows)
    image_id = pd.Series([f"{names[m]}/images/img{i:07d}.jpg" for i, m in enumerate(method)])
    return pd.DataFrame(
        {
            "image_id": image_id,
            "method": names[method],
            "family": np.where(label == FAKE, "gan", "real"),
            "category": categories[rng.integers(len(categories), size=rows)],
            "label": label,
            "group": image_id,
            "given_split": "",
            "shard": [f"{names[m]}-{i // 2000:05d}.tar" for i, m in enumerate(method)],
            "offset": number % 2000 * 13_312 + 512,
            "length": 12_000 + number % 999,
            "sha256": [f"{i:064x}" for i in number],
        }
    )


def make_metadata(rows: int, hashes: UInt64Array) -> pd.DataFrame:
    """Return `make_index` with what the metadata stage adds."""
    rng = np.random.default_rng(1)
    index = make_index(rows)
    return index.assign(
        key=image_keys(index["image_id"]),
        width=200,
        height=200,
        format="jpeg",
        jpeg_quality=rng.integers(65, 101, rows),
        bytes_per_pixel=(index["length"] / 40_000).round(6),
        brightness=rng.random(rows).round(6),
        contrast=(rng.random(rows) / 2).round(6),
        sharpness=(rng.random(rows) * 1000).round(3),
        colourfulness=(rng.random(rows) * 100).round(3),
        perceptual_hash=[f"{value:016x}" for value in hashes.tolist()],
    )
