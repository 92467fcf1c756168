"""data/metadata.parquet, those columns of metadata.csv that a draw needs, and what it compares."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from src.core.arrays import IntArray, UInt64Array
from src.core.hashing import group_keys
from src.core.tables import LABELS, SPLITS, Schema
from src.dataset.columns import METADATA, SPLIT_TABLE

STRATUM = ["label", "method", "category"]  # images alike in these are alike to a draw
_LABELS = pd.CategoricalDtype(list(LABELS))
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
    strata, stratum = _strata(rows)
    key = rows["key"].to_numpy()
    return Images(
        strata=strata,
        stratum=stratum,
        key=key,
        representative=_find(rows["group_key"].to_numpy(), key),
        given_split=pd.Categorical(rows["given_split"], categories=["", *SPLITS]).codes,
    )


def rows_of_each(code: NDArray[np.integer], codes: int) -> list[IntArray]:
    """Return the rows whose code is 0, 1, ..., before `codes`."""
    order = np.argsort(code.astype(np.min_scalar_type(codes)), kind="stable")  # numpy: by digits
    return np.split(order, np.cumsum(np.bincount(code, minlength=codes))[:-1])


def _strata(rows: pd.DataFrame) -> tuple[pd.DataFrame, IntArray]:
    """Return the strata in order, and which each row is in: groupby's, in a tenth of its time."""
    names = [
        pd.Categorical.from_codes(rows["label"].to_numpy(), dtype=_LABELS),
        pd.Categorical(rows["method"]),
        pd.Categorical(rows["category"]),
    ]
    shape = [len(column.categories) for column in names]
    code = np.ravel_multi_index([column.codes for column in names], shape)
    is_present = np.bincount(code) > 0
    parts = np.unravel_index(np.flatnonzero(is_present), shape)
    strata = pd.DataFrame(
        {
            column: np.array(values.categories)[part]
            for column, values, part in zip(STRATUM, names, parts, strict=True)
        }
    )
    return strata, (np.cumsum(is_present) - 1)[code]


def _find(wanted: UInt64Array, key: UInt64Array) -> IntArray:
    """Return the row with each `wanted` key; most are where they stand."""
    rows = np.arange(len(key))
    moved = np.flatnonzero(wanted != key)
    found = np.flatnonzero(pd.Series(key).isin(wanted[moved]))
    found = found[np.argsort(key[found])]
    rows[moved] = found[np.searchsorted(key[found], wanted[moved])]
    return rows
