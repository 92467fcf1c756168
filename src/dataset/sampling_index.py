"""data/metadata.arrow: what a draw needs of metadata.csv, to choose among millions of images.

A draw compares numbers: a group is the row that it counts as, and rows that are alike to a draw
follow each other, so that their kinds are a few names and counts. Text is read of the rows that
were drawn, and of no other.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import ipc

from src.core.arrays import BoolArray, IntArray, UInt64Array
from src.core.cli import InputError
from src.core.files import replacing
from src.core.hashing import group_keys
from src.core.tables import SPLITS
from src.dataset.columns import SPLIT_TABLE
from src.dataset.strata import Rows, find_cells

GIVEN = ("", *SPLITS)  # where a data set has an image


class Kind(NamedTuple):
    """What images have in common that are alike to a draw."""

    label: int
    method: str
    category: str


@dataclass(frozen=True)
class Images:
    """What a draw compares of images: few names of many rows, and numbers.

    `to_representative` is how many rows after this one that is which its group counts as, the same
    for all of a group: its real image, if it has one, by the least key. Most are 0: alone.
    """

    kinds: Mapping[Kind, Rows]  # in order
    key: UInt64Array
    to_representative: NDArray[np.int32]
    given_split: NDArray[np.int8]  # numbers of GIVEN


_KINDS = b"kinds"  # in the file's schema: each kind and how many rows it has, as JSON
_CODED = ["given_split", "key", "to_representative"]
_ROWS = [column for column in SPLIT_TABLE if column != "split"]
_STORED = [column for column in _ROWS if column not in Kind._fields]  # of each row
SOURCE_COLUMNS = [*dict.fromkeys([*Kind._fields, "given_split", "key", *_ROWS])]  # of metadata
_PIECE = 1 << 17  # rows that are in memory at a time


def coded(metadata: pd.DataFrame | Images) -> Images:
    """Return what a draw compares of `metadata`."""
    if isinstance(metadata, Images):
        return metadata
    key = metadata["key"].to_numpy()
    group = pd.factorize(group_keys(metadata))[0].astype(np.int32)
    return Images(
        kinds={Kind._make(cell): rows for cell, rows in find_cells(metadata, Kind._fields).items()},
        key=key,
        to_representative=_to_representatives(group, metadata["label"].to_numpy(), key),
        given_split=pd.Categorical(metadata["given_split"], categories=list(GIVEN)).codes,
    )


def _to_representatives(
    group: NDArray[np.int32], label: IntArray, key: UInt64Array
) -> NDArray[np.int32]:
    size = np.bincount(group)
    first = np.empty(len(size), dtype=np.int32)
    first[group] = rows = np.arange(len(group), dtype=np.int32)
    shared = np.flatnonzero(size[group] > 1)
    order = shared[np.lexsort((key[shared], label[shared]))[::-1]]
    first[group[order]] = order  # of equal groups, the last one written stays
    return first[group] - rows


def write_catalogue(metadata: pd.DataFrame, path: Path) -> None:
    """Write the file of `metadata` that `read_coded` and `read_rows` read; rows by kind."""
    images = coded(metadata)
    order, distance = _by_kind(images)
    columns: dict[str, Any] = {name: metadata[name].array for name in _STORED}
    columns |= {name: pd.Categorical(columns[name]) for name in ("family", "shard")}
    columns |= {
        name: pd.to_numeric(metadata[name].to_numpy(), downcast="integer")
        for name in ("offset", "length")
    }
    # Most images are the only one of their group, which has their name: it is there already.
    columns["group"] = metadata["group"].where(metadata["group"] != metadata["image_id"]).array
    columns |= {"given_split": images.given_split, "key": images.key, "to_representative": distance}
    table = pa.table(columns)  # not a table of pandas, which would copy every number
    # pandas' texts take twice the numbers to say where each begins.
    schema = pa.schema(
        [
            field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
            for field in table.schema
        ],
        {_KINDS: json.dumps(_sizes(images))},
    )
    options = ipc.IpcWriteOptions(compression="lz4")
    with (
        replacing(path) as temporary,
        ipc.new_file(str(temporary), schema, options=options) as writer,
    ):
        for start in range(0, len(table), _PIECE):
            piece = table.take(pa.array(order[start : start + _PIECE]))
            writer.write_table(piece.cast(schema).combine_chunks())


def _by_kind(images: Images) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the order of rows by kind, and what `to_representative` is in that order."""
    rows = np.arange(len(images.key), dtype=np.int32)
    order = np.concatenate([rows[of_kind] for of_kind in images.kinds.values()])
    place = np.empty_like(rows)
    place[order] = rows
    return order, place[rows + images.to_representative] - place


def _sizes(images: Images) -> list[tuple[int | str, ...]]:
    return [(*kind, len(images.key[rows])) for kind, rows in images.kinds.items()]


def read_coded(path: Path) -> Images:
    """Return `coded` of the metadata that `path` was written from, in the order of its rows.

    Raises:
        InputError: there is no such file, it is damaged, or it is another kind of file.
    """
    with _opened(path, _CODED) as reader:
        kinds, rows = _kinds(reader)
        columns = {
            name: np.empty(rows, reader.schema.field(name).type.to_pandas_dtype())
            for name in _CODED
        }
        # Piece by piece into its place: memory that is new costs more than what is read into it.
        for place, piece in _pieces(reader):
            for name, column in columns.items():
                column[place] = piece[name].to_numpy()
    return Images(kinds=kinds, **columns)


def _kinds(reader: ipc.RecordBatchFileReader) -> tuple[dict[Kind, Rows], int]:
    """Return the rows of each kind, and how many rows there are."""
    kinds: dict[Kind, Rows] = {}
    start = 0
    metadata = reader.schema.metadata or {}
    if _KINDS not in metadata:
        raise ValueError("it does not say which rows are alike")
    for *kind, size in json.loads(metadata[_KINDS]):
        kinds[Kind(*kind)] = slice(start, start := start + size)
    return kinds, start


def _pieces(reader: ipc.RecordBatchFileReader) -> Iterator[tuple[slice, pa.RecordBatch]]:
    """Yield the rows of a file, few at a time, and which they are."""
    start = 0
    for number in range(reader.num_record_batches):
        piece = reader.get_batch(number)
        yield slice(start, start := start + len(piece)), piece


def read_rows(path: Path, is_wanted: BoolArray) -> pd.DataFrame:
    """Return all but `split` of SPLIT_TABLE, of the rows of `path` that are wanted."""
    with _opened(path, _STORED) as reader:
        kinds, _ = _kinds(reader)
        wanted = [piece.filter(pa.array(is_wanted[place])) for place, piece in _pieces(reader)]
    found = pa.Table.from_batches(wanted)
    columns = {name: found[name].cast(SPLIT_TABLE[name]) for name in _STORED}
    columns["group"] = pc.coalesce(columns["group"], columns["image_id"])
    counts = [np.count_nonzero(is_wanted[rows]) for rows in kinds.values()]
    kind = np.repeat(np.arange(len(kinds)), counts)
    for name, values in zip(Kind._fields, zip(*kinds, strict=True), strict=True):
        columns[name] = pa.array(values, SPLIT_TABLE[name]).take(pa.array(kind))
    table: pd.DataFrame = pa.table({name: columns[name] for name in _ROWS}).to_pandas()
    return table


@contextmanager
def _opened(path: Path, columns: Sequence[str]) -> Iterator[ipc.RecordBatchFileReader]:
    try:
        with pa.OSFile(str(path)) as file:
            names = ipc.open_file(file).schema.names
            options = ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns])
            yield ipc.open_file(file, options=options)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the metadata stage") from error
    except (OSError, ValueError) as error:  # which all of Arrow's are
        raise InputError(
            f"{path}: damaged, or not written by the metadata stage; run it again ({error})"
        ) from error
