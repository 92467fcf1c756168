"""An image as a whole -> its size and its fine detail: what says whether training saw its like.

A detector's own features do not: what it does not know, it sees as something that it knows. Size
and spectrum tell pictures from elsewhere, and processed ones, better than any other statistic that
was compared (docs/studies.md).
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from src.core.arrays import Float32Array
from src.dataset.parallel import map_images
from src.images.decode import RGBImage, decode
from src.images.shards import ShardReader
from src.probes.features import radial_spectrum

_PLACE = ["shard", "offset", "length"]
_FIRST_RING = 8  # of 32: lower frequencies say what is shown, and not how fine it is


def appearance(pixels: RGBImage) -> Float32Array:
    """Return log2 of the shorter side, then the finer rings of `radial_spectrum`, shape (25,)."""
    side = np.log2(min(pixels.shape[:2]))
    return np.append(side, radial_spectrum(pixels)[_FIRST_RING:]).astype(np.float32)


def appearances(images: pd.DataFrame, root: Path, name: str) -> Float32Array:
    """Return `appearance` of each of `images` in the shards of `root`; a bar calls them `name`."""
    return np.concatenate(list(map_images(partial(_of_rows, ShardReader(root)), images, name)))


def _of_rows(reader: ShardReader, rows: pd.DataFrame) -> Float32Array:
    places = rows[_PLACE].itertuples(index=False)
    return np.stack([appearance(decode(reader.read(*place))) for place in places])
