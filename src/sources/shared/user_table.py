"""A CSV as users edit it in spreadsheets -> its columns, where their meaning is beyond doubt."""

import csv
import io
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as arrow_csv

from src.core.cli import InputError

_DELIMITERS = ",;\t"
# UTF-8 last: it takes any mark of the others for text.
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_WHOLE = r"^[+-]?\d+(?:\.0*)?$"


def read_user_table(content: bytes, name: str, columns: Mapping[str, pa.DataType]) -> pd.DataFrame:
    """Return `columns`, texts or whole numbers, of the CSV `content`, which messages call `name`.

    Separated by commas, semicolons or tabs, in UTF-8 or UTF-16; capitals and spaces in the heads
    and around values do not count, and 6.0 is 6.

    Raises:
        InputError: a column is missing, or a value is no whole number; the message names the row.
    """
    data, found, delimiter = _opened(content, name)
    if missing := [column for column in columns if column not in found]:
        raise InputError(f"{name}: column missing: {', '.join(missing)}; found {', '.join(found)}")
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(data),
            arrow_csv.ReadOptions(column_names=found, skip_rows=1),
            arrow_csv.ParseOptions(delimiter=delimiter),
            arrow_csv.ConvertOptions(
                include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string())
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{name}: {error}") from error
    return pd.DataFrame(
        {column: _converted(table[column], kind, column, name) for column, kind in columns.items()}
    )


def column_names(content: bytes, name: str) -> list[str]:
    """Return the heads of the CSV in `content`, in lower case."""
    return _opened(content, name)[1]


def _opened(content: bytes, name: str) -> tuple[bytes, list[str], str]:
    """Return the table in UTF-8, its heads, and what separates them."""
    if not content.strip():
        raise InputError(f"{name}: it is empty; fetch it again, or move it elsewhere")
    encoding = next((known for mark, known in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        data = content if encoding == "utf-8" else content.decode(encoding).encode()
        head = data.partition(b"\n")[0].decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8; save it as CSV in UTF-8") from error
    delimiter = max(_DELIMITERS, key=head.count)
    heads = next(csv.reader([head.rstrip("\r")], delimiter=delimiter, skipinitialspace=True), [])
    return data, [one.strip().lower() for one in heads], delimiter


def _converted(values: pa.ChunkedArray, kind: pa.DataType, column: str, name: str) -> pd.Series:
    texts = pc.utf8_trim_whitespace(values)
    if not pa.types.is_integer(kind):
        return pd.Series(texts.to_pandas())
    right = pc.match_substring_regex(texts, _WHOLE)
    if not pc.all(right).as_py():
        row = pc.index(right, False).as_py()
        raise InputError(
            f"{name}: {column} {texts[row].as_py()!r} in line {row + 2} is no whole number"
        )
    return pd.Series(pc.cast(pc.replace_substring_regex(texts, r"^\+|\.0*$", ""), kind).to_pandas())
