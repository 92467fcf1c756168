"""The table of an origin's members: what they are called and which bytes to read for each."""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
from pyarrow import compute as pc

from src.command import InputError

MEMBERS = pa.schema(
    {
        "name": pa.large_string(),  # as if every archive were unpacked where it lies
        "file": pa.string(),  # the file to read, below the origin's URL
        "offset": pa.int64(),  # bytes from its start
        "length": pa.int64(),  # bytes to read; WHOLE_FILE: all of it, without asking for a range
        "size": pa.int64(),  # bytes of content
        "stamp": pa.uint64(),  # changes when the content does; a zip's CRC-32
        "zipped": pa.bool_(),  # what is read is a zip record: local header and packed content
    }
)
WHOLE_FILE = -1

# On Unix, on Windows, or for a program that unpacks without looking: leads out of the folder.
_UNSAFE = r"^/|^[A-Za-z]:|\\|(?:^|/)\.\.(?:/|$)|\x00|^$"


class Member(NamedTuple):
    """A row of MEMBERS."""

    name: str
    file: str
    offset: int
    length: int
    size: int
    stamp: int
    zipped: bool


def table(columns: Mapping[str, object], count: int) -> pa.Table:
    """Return a table of members; a column given as one value holds for all `count` of them."""
    return pa.table([_array(columns[f.name], f.type, count) for f in MEMBERS], schema=MEMBERS)


def _array(values: object, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(values, str | int):
        return pa.repeat(pa.scalar(values, kind), count)
    return pa.array(values, kind)


def check_names(members: pa.Table, where: str) -> None:
    """Raise InputError where a name leads out of its folder or occurs twice."""
    names = members["name"]
    unsafe = pc.match_substring_regex(names, _UNSAFE)
    if pc.any(unsafe).as_py():
        name = names.filter(unsafe)[0].as_py()
        raise InputError(f"{where}: refused, the member {name!r} leads out of its folder")
    distinct = pc.count_distinct(names).as_py()
    pa.default_memory_pool().release_unused()  # its hash table is larger than the names
    if distinct < len(names):
        counts = pc.value_counts(names)
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        name = repeated.field("values")[0].as_py()
        raise InputError(f"{where}: refused, two members are called {name!r}")
