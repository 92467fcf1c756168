"""data/metadata.arrow: what a draw needs of metadata.csv, to choose among millions of images.

A draw compares numbers: names are codes in the order of the names, and so are groups. Text is read
of the rows that were drawn, and of no other.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import ipc

from src.command import InputError
from src.files import replacing
from src.ranks import group_keys
from src.schema import SPLIT_TABLE

_NAMES = ["label", "method", "category", "given_split"]
_CODED = [*_NAMES, "key", "group_number"]
_ROWS = [column for column in SPLIT_TABLE if column != "split"]
SOURCE_COLUMNS = [*dict.fromkeys([*_NAMES, "key", *_ROWS])]  # of metadata that it is made of
_PIECE = 1 << 17  # rows that are in memory at a time


def coded(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return what a draw compares of `metadata`: names as categories, `group` as a number."""
    if "group_number" in metadata:
        return metadata
    names = {name: pd.Categorical(metadata[name]) for name in _NAMES}
    return pd.DataFrame(
        {
            **names,
            "key": metadata["key"].to_numpy(),
            "group_number": pd.factorize(group_keys(metadata))[0].astype(np.int32),
        }
    )


def write_catalogue(metadata: pd.DataFrame, path: Path) -> None:
    """Write the file of `metadata` that `read_coded` and `read_rows` read."""
    rest = {name: metadata[name].array for name in _ROWS if name not in _CODED}
    rest |= {name: pd.Categorical(rest[name]) for name in ("family", "shard")}
    # Most images are the only one of their group, which has their name: it is there already.
    rest["group"] = metadata["group"].where(metadata["group"] != metadata["image_id"]).array
    table = pa.Table.from_pandas(coded(metadata).assign(**rest), preserve_index=False)
    schema = table.schema.remove_metadata()
    options = ipc.IpcWriteOptions(compression="lz4")
    with (
        replacing(path) as temporary,
        ipc.new_file(str(temporary), schema, options=options) as writer,
    ):
        for start in range(0, len(table), _PIECE):
            piece = table.slice(start, _PIECE).combine_chunks()
            # Copied: the end of a slice's memory would be what its neighbours left there.
            writer.write_table(piece.take(pa.array(np.arange(len(piece)))))


def read_coded(path: Path) -> pd.DataFrame:
    """Return `coded` of the metadata that `path` was written from.

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
