"""Made-up JPEGs of ArtiFact's kind, 200 x 200 pixels at quality 65 to 100, and shards of them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from src.core.tables import FAKE, LABELS, REAL
from src.images.shards import write_shard

SIDE = 200


def make_jpegs(count: int) -> list[bytes]:
    """Return as many different JPEGs, about 15 KB each, the same in every run."""
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3)).astype(np.float32)
        smooth = np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
        picture = smooth + rng.normal(scale=6, size=smooth.shape)
        pixels = np.ascontiguousarray(picture.clip(0, 255), dtype=np.uint8)
        quality = int(rng.integers(65, 101))
        jpegs.append(simplejpeg.encode_jpeg(pixels, quality, colorsubsampling="420"))
    return jpegs


def shard_table(jpegs: Sequence[bytes], root: Path, per_shard: int = 2000) -> pd.DataFrame:
    """Write `jpegs` as shards into the new folder `root`; return a table of where each one is.

    Every second one is a fake; the columns are those of a split table.
    """
    root.mkdir(parents=True)
    parts = []
    for first in range(0, len(jpegs), per_shard):
        part = jpegs[first : first + per_shard]
        ids = [f"method/{first + number:07d}.jpg" for number in range(len(part))]
        shard = f"method-{first // per_shard:05d}.tar"
        names = [f"{first + number:07d}.jpg" for number in range(len(part))]
        places = write_shard(root / shard, zip(names, part, strict=True))
        offsets, lengths = zip(*places, strict=True)
        columns = {"image_id": ids, "shard": shard, "offset": offsets, "length": lengths}
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True)
    label = np.where(np.arange(len(table)) % 2, FAKE, REAL)
    return table.assign(
        split="test",
        method=[LABELS[value] for value in label],
        family=np.where(label == FAKE, "gan", "real"),
        category="",
        label=label,
        group=table["image_id"],
    )


def write_class_folders(jpegs: Sequence[bytes], root: Path) -> None:
    """Write `jpegs` as loose files, root/real and root/fake in turn."""
    for name in LABELS.values():
        (root / name).mkdir(parents=True)
    for number, content in enumerate(jpegs):
        (root / LABELS[number % 2] / f"{number:07d}.jpg").write_bytes(content)
