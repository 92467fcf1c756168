"""The tables on disk: their columns, their types, and the one way to read and write them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet

from src.core.arrays import BoolArray
from src.core.cli import InputError
from src.core.files import replacing
from src.core.hashing import count_distinct

REAL, FAKE = 0, 1
LABELS = {REAL: "real", FAKE: "fake"}
SPLITS = ("train", "val", "test")
HOLDOUT = "holdout"  # a split beside SPLITS: methods that training never sees
FAMILIES = ("real", "gan", "diffusion", "other")

REPEATED = ("method", "family", "category", "given_split", "shard")  # many rows have the same text

Schema = Mapping[str, pa.DataType]

# Names may hold line breaks; without this, Arrow cuts its blocks of a megabyte at any of them.
_PARSE = csv.ParseOptions(newlines_in_values=True)
_PIECE = 1 << 17  # rows that are written at a time

IDENTITY = {
    "image_id": pa.string(),  # method/path, unique
    "method": pa.string(),  # a generator (fake) or a data set (real)
    "family": pa.string(),  # one of FAMILIES
    "category": pa.string(),  # what is shown, as the source names it; may be empty
    "label": pa.int64(),  # REAL or FAKE
    "group": pa.string(),  # images that must stay on one side of a split share it
}


def read_table(path: Path, schema: Schema, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the CSV at `path` with the columns of `schema`, or only `columns` of them.

    Raises:
        InputError: a column is missing, a value has the wrong type or is not allowed, an
            `image_id` repeats; the message names file, column and value.
    """
    with path.open("rb") as file:
        return parse_table(file, str(path), schema, columns)


def parse_table(
    content: BinaryIO, path: str, schema: Schema, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return the CSV in `content`, which messages call `path`; all else is as in `read_table`."""
    wanted = list(schema) if columns is None else list(columns)
    options = csv.ConvertOptions(
        include_columns=wanted,
        column_types={name: schema[name] for name in wanted},
        null_values=[],
        strings_can_be_null=False,
    )
    try:
        read = csv.read_csv(content, None, _PARSE, options)
        table: pd.DataFrame = read.to_pandas()
    except KeyError as error:
        raise InputError(f"{path}: column missing: {error.args[0]}") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: {error}") from error
    _check_values(table, path)
    return table


def require_both_classes(labels: pd.Series, where: str) -> None:
    """Raise unless both classes occur in `labels`, those of the images that `where` names.

    Raises:
        InputError: a class is missing; the message begins with `where`.
    """
    for label, name in LABELS.items():
        if not (labels == label).any():
            raise InputError(
                f"{where}: no {name} image among {len(labels)}; both classes are needed"
            )


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table`, put together from many, with the texts of a column in one place.

    pandas leaves them in their pieces, each with what surrounds it, and every selection of rows
    has to join them.
    """
    joined: pd.DataFrame = pa.Table.from_pandas(table).combine_chunks().to_pandas()
    return joined


def write_table(table: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write the columns of `schema`, in its order, as UTF-8 CSV with Unix line ends."""
    _check_values(table, path)
    _check_texts(table, path, schema)
    try:
        _write_piecewise(table, path, schema, "none")
    except pa.ArrowInvalid:  # some text holds what CSV gives a meaning: Arrow quotes all or none
        _write_piecewise(table, path, schema, "needed")


def write_parquet(table: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write the columns of `schema` as Parquet, which is read in a tenth of the time of CSV."""
    content = pa.Table.from_pandas(
        table[list(schema)], pa.schema(list(schema.items())), preserve_index=False
    ).replace_schema_metadata()  # pandas' would name versions
    with replacing(path) as temporary:
        parquet.write_table(
            content,
            temporary,
            row_group_size=_PIECE,
            compression="lz4",
            use_dictionary=[name for name in REPEATED if name in schema],
        )


def read_parquet(
    path: Path, columns: Sequence[str], is_wanted: BoolArray | None = None
) -> pd.DataFrame:
    """Return `columns` of a Parquet file, of all rows or those wanted; REPEATED are categories.

    Raises:
        InputError: there is no such file, it is damaged, or it lacks a column.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # with Arrow's own, half as much again is held
    pieces, start = [], 0
    try:
        if missing := sorted(set(columns) - set(parquet.read_schema(path).names)):
            raise InputError(f"{path}: column missing: {missing[0]}; write the file anew")
        names = [name for name in REPEATED if name in columns]
        with parquet.ParquetFile(path, read_dictionary=names) as file:
            for piece in file.iter_batches(_PIECE, columns=list(columns)):
                is_kept = None if is_wanted is None else is_wanted[start : start + len(piece)]
                start += len(piece)
                pieces.append(piece if is_kept is None else piece.filter(pa.array(is_kept)))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the stage that writes it") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: damaged, or no Parquet file; write it anew ({error})") from error
    table: pd.DataFrame = pa.Table.from_batches(pieces).unify_dictionaries().to_pandas()
    return table


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write all of `table` for plots and readers, floats at six significant digits."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _write_piecewise(table: pd.DataFrame, path: Path, schema: Schema, quoting_style: str) -> None:
    options = csv.WriteOptions(include_header=False, quoting_style=quoting_style)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write((",".join(schema) + "\n").encode())  # Arrow would put the names in quotes
        for piece in _pieces(table, schema):
            csv.write_csv(piece, file, options)


def _pieces(table: pd.DataFrame, schema: Schema) -> Iterator[pa.Table]:
    """Yield the rows of `table` as Arrow's, few at a time: memory for millions is needed once."""
    for start in range(0, len(table), _PIECE):
        yield pa.Table.from_pandas(
            table.iloc[start : start + _PIECE],
            schema=pa.schema(list(schema.items())),
            preserve_index=False,
        )


def _check_texts(table: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Raise if a text is none that UTF-8 can write: a name of bytes in some other encoding."""
    for column in (name for name in schema if pa.types.is_string(schema[name])):
        try:
            pa.array(table[column], pa.string(), from_pandas=True)
        except UnicodeEncodeError as error:
            raise InputError(
                f"{path}: {column} {error.object!a} is not valid Unicode; rename what it names"
            ) from error


def _check_values(table: pd.DataFrame, path: Path | str) -> None:
    allowed = {
        "label": tuple(LABELS),
        "split": (*SPLITS, HOLDOUT),
        "given_split": (*SPLITS, ""),
        "family": FAMILIES,
    }
    for column in allowed.keys() & set(table.columns):
        wrong = table.loc[~table[column].isin(allowed[column]), column]
        if len(wrong):
            raise InputError(
                f"{path}: {column} {wrong.to_list()[0]!r} in row {wrong.index[0]} "
                f"is not one of {list(allowed[column])}"
            )
    if "image_id" in table and not _are_unique(table):
        repeated = table.loc[table["image_id"].duplicated(), "image_id"]
        raise InputError(f"{path}: image_id {repeated.iloc[0]!r} occurs more than once")


def _are_unique(table: pd.DataFrame) -> bool:
    # Different keys are of different images, and numbers: to compare names takes ten times as much.
    has_keys = "key" in table and count_distinct(table["key"].to_numpy()) == len(table)
    return has_keys or bool(table["image_id"].is_unique)
