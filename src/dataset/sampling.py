"""data/metadata.parquet, those columns of metadata.csv that a draw needs, and what it compares."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from src.core.arrays import IntArray, UInt64Array
from src.core.hashing import group_keys
from src.core.tables import SPLITS, Schema
from src.dataset.columns import METADATA, SPLIT_TABLE

STRATUM = ["label", "method", "category"]  # images alike in these are alike to a draw
COMPARED = [*STRATUM, "given_split", "key", "group_key"]
COPIED = [column for column in SPLIT_TABLE if column != "split"]
SAMPLING: Schema = {
    **{name: METADATA[name] for name in METADATA if name in {*COMPARED, *COPIED}},
    "group_key": pa.uint64(),  # `key` of the image that the group counts as
}


@dataclass(frozen=True)
class Images:
    """What a draw compares of images: each is a row of the arrays."""

    strata: pd.DataFrame  # columns STRATUM, in order
    stratum: NDArray[np.integer]  # a row of `strata`
    key: UInt64Array
    representative: IntArray  # the row that the image's group counts as
    given_split: IntArray  # 0: none; 1, 2, 3: of SPLITS


def representative_keys(metadata: pd.DataFrame) -> pd.Series:
    """Return the `key` of the image that each row's group counts as, by the index of `metadata`.

    That is a real image, if the group has one, and the one with the least key.
    """
    in_order = metadata.sort_values(["label", "key"])
    return in_order["key"].groupby(group_keys(in_order)).transform("first")


def images_of(rows: pd.DataFrame) -> Images:
    """Return what a draw compares of `rows`, columns COMPARED."""
    code = rows["label"].to_numpy()
    for column in STRATUM[1:]:
        names = pd.Categorical(rows[column])
        code = code * len(names.categories) + names.codes
    is_present = np.bincount(code) > 0
    example = np.empty(len(is_present), np.int64)
    example[code] = np.arange(len(code))  # a row of each stratum
    strata = rows[STRATUM].iloc[example[is_present]].reset_index(drop=True)
    return Images(
        strata=strata.astype(dict.fromkeys(STRATUM[1:], object)),
        stratum=(np.cumsum(is_present, dtype=np.int32) - 1)[code],
        key=rows["key"].to_numpy(),
        representative=_find(rows["group_key"].to_numpy(), rows["key"].to_numpy()),
        given_split=pd.Categorical(rows["given_split"], categories=["", *SPLITS]).codes,
    )


def _find(wanted: UInt64Array, key: UInt64Array) -> IntArray:
    """Return the row with each `wanted` key; most are in the same row."""
    rows = np.arange(len(key))
    moved = np.flatnonzero(wanted != key)
    found = np.flatnonzero(pd.Series(key).isin(wanted[moved]))
    rows[moved] = found[pd.Index(key[found]).get_indexer(pd.Index(wanted[moved]))]
    return rows


def rows_of_each(code: NDArray[np.integer], codes: int) -> list[IntArray]:
    """Return the rows whose code is 0, 1, ..., before `codes`."""
    order = np.argsort(code.astype(np.min_scalar_type(codes)), kind="stable")  # numpy: by digits
    return np.split(order, np.cumsum(np.bincount(code, minlength=codes))[:-1])
