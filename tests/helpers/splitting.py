"""A draw from a table of metadata, as the stage makes it from its file."""

from typing import Any

import numpy as np
import pandas as pd

from src.core.arrays import IntArray
from src.core.hashing import ranks
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import Images, images_of, representative_keys
from src.splitting import assignment, draw, summary
from src.splitting.assignment import ASSIGNED, LEFT_OUT, SplitParams

_NAMES: "pd.CategoricalDtype[object]" = pd.CategoricalDtype(list(ASSIGNED))


def as_images(metadata: pd.DataFrame) -> Images:
    """Return what a draw compares of `metadata`."""
    rows = metadata.reset_index(drop=True)
    return images_of(rows.assign(group_key=representative_keys(rows)))


def assigned(metadata: pd.DataFrame, params: SplitParams) -> pd.Categorical:
    """Return the name of the split that each row of `metadata` is assigned to."""
    images = as_images(metadata)
    code = assignment.assign_splits(images, ranks(images.key, params.seed), params)
    return _names(code)


def drawn(metadata: pd.DataFrame, params: SplitParams) -> pd.Categorical:
    """Return the name of the split that each row of `metadata` is drawn for."""
    return _names(draw.draw(as_images(metadata), params))


def metrics_of(metadata: pd.DataFrame, split: pd.Categorical) -> dict[str, Any]:
    """Return the metrics of a `split` of `metadata`."""
    return summary.summary(as_images(metadata), split.codes)


def split_table(metadata: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    """Return data/splits.csv of a `split` of `metadata`."""
    is_used = np.asarray(split != LEFT_OUT)
    return draw.split_table(metadata[is_used], split.codes[is_used])[list(SPLIT_TABLE)]


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return data/splits.csv of a draw from `metadata`."""
    return split_table(metadata, drawn(metadata, params))


def _names(code: IntArray) -> pd.Categorical:
    return pd.Categorical.from_codes(code, dtype=_NAMES)
