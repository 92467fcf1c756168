"""data/metadata.arrow: what a draw needs of metadata.csv, to choose among millions of images.

A draw compares numbers: names are codes in the order of the names, and a group is the row that it
counts as. Rows that are alike to a draw follow each other, so that it has none to look for. Text is
read of the rows that were drawn, and of no other.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import ipc

from src.cells import cell_codes, rows_of_codes
from src.command import InputError
from src.files import replacing
from src.ranks import group_keys
from src.schema import SPLIT_TABLE

_NAMES = ["label", "method", "category", "given_split"]
_CODED = [*_NAMES, "key", "to_representative"]
KIND = ["label", "method", "category"]  # what images have in common that are alike to a draw
_ROWS = [column for column in SPLIT_TABLE if column != "split"]
SOURCE_COLUMNS = [*dict.fromkeys([*_NAMES, "key", *_ROWS])]  # of metadata that it is made of
_PIECE = 1 << 17  # rows that are in memory at a time


def coded(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return what a draw compares of `metadata`: names as categories, and numbers.

    `to_representative` is how many rows after this one that is which its group counts as, the same
    for all of a group: its real image, if it has one, by the least key. Most are 0: alone.
    """
    if "to_representative" in metadata:
        return metadata
    images = pd.DataFrame({name: pd.Categorical(metadata[name]) for name in _NAMES})
    images["key"] = metadata["key"].to_numpy()
    group = pd.factorize(group_keys(metadata))[0].astype(np.int32)
    images["to_representative"] = _to_representatives(images, group)
    return images


def _to_representatives(images: pd.DataFrame, group: NDArray[np.int32]) -> NDArray[np.int32]:
    size = np.bincount(group)
    first = np.empty(len(size), dtype=np.int32)
    first[group] = rows = np.arange(len(group), dtype=np.int32)
    shared = np.flatnonzero(size[group] > 1)
    label, key = images["label"].cat.codes.to_numpy(), images["key"].to_numpy()
    order = shared[np.lexsort((key[shared], label[shared]))[::-1]]
    first[group[order]] = order  # of equal groups, the last one written stays
    return first[group] - rows


def write_catalogue(metadata: pd.DataFrame, path: Path) -> None:
    """Write the file of `metadata` that `read_coded` and `read_rows` read; rows by KIND."""
    rest = {name: metadata[name].array for name in _ROWS if name not in _CODED}
    rest |= {name: pd.Categorical(rest[name]) for name in ("family", "shard")}
    # Most images are the only one of their group, which has their name: it is there already.
    rest["group"] = metadata["group"].where(metadata["group"] != metadata["image_id"]).array
    images = coded(metadata)
    order, images["to_representative"] = _by_kind(images)
    table = pa.Table.from_pandas(images.assign(**rest), preserve_index=False)
    # pandas' texts take twice the numbers to say where each begins.
    texts = [field for field in table.schema if pa.types.is_large_string(field.type)]
    schema = table.schema.remove_metadata()
    for field in texts:
        place = schema.get_field_index(field.name)
        schema = schema.set(place, field.with_type(pa.string()))
    options = ipc.IpcWriteOptions(compression="lz4")
    with (
        replacing(path) as temporary,
        ipc.new_file(str(temporary), schema, options=options) as writer,
    ):
        for start in range(0, len(table), _PIECE):
            piece = table.take(pa.array(order[start : start + _PIECE]))
            writer.write_table(piece.cast(schema).combine_chunks())


def _by_kind(images: pd.DataFrame) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the order of rows by KIND, and what `to_representative` is in that order."""
    rows = np.arange(len(images), dtype=np.int32)
    _, parts = rows_of_codes(cell_codes(images, KIND))
    order = np.concatenate([rows[part] for part in parts])
    place = np.empty_like(rows)
    place[order] = rows
    return order, place[rows + images["to_representative"]] - place


def read_coded(path: Path) -> pd.DataFrame:
    """Return `coded` of the metadata that `path` was written from, in the order of its rows.

    Raises:
        InputError: there is no such file, it is damaged, or it is another kind of file.
    """
    table: pd.DataFrame = (
        pa.Table.from_batches(_pieces(path, _CODED)).combine_chunks().to_pandas(split_blocks=True)
    )
    return table


def read_rows(path: Path, is_wanted: NDArray[np.bool_]) -> pd.DataFrame:
    """Return all but `split` of SPLIT_TABLE, of the rows of `path` that are wanted."""
    wanted, start = [], 0
    for piece in _pieces(path, _ROWS):
        wanted.append(piece.filter(pa.array(is_wanted[start : start + len(piece)])))
        start += len(piece)
    found = pa.Table.from_batches(wanted)
    columns = {name: found[name].cast(SPLIT_TABLE[name]) for name in _ROWS}
    columns["group"] = pc.coalesce(columns["group"], columns["image_id"])
    table: pd.DataFrame = pa.table(columns).to_pandas()
    return table


def _pieces(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        with pa.OSFile(str(path)) as file:
            names = ipc.open_file(file).schema.names
            options = ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns])
            reader = ipc.open_file(file, options=options)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the metadata stage") from error
    except (OSError, ValueError) as error:  # which all of Arrow's are
        raise InputError(
            f"{path}: damaged, or not written by the metadata stage; run it again ({error})"
        ) from error
