"""The table of an origin's members: what they are called and which bytes to read for each."""

import os
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
from pyarrow import compute as pc

from src.core.cli import InputError

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
_UNSAFE = r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|\x00|^$"
_BACKSLASHES = (
    "has backslashes, as some programs write them on Windows; unpack the archive, which unzip does "
    "right, and set download.origin to its folder"
)


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
    """Return a table of members; a column given as one value holds for all `count` of them.

    Raises:
        InputError: a name is not UTF-8, as in a tar archive of an old machine.
    """
    try:
        arrays = [_array(columns[f.name], f.type, count) for f in MEMBERS]
    except UnicodeEncodeError as error:
        shown = os.fsencode(error.object).decode("utf-8", "backslashreplace")
        raise InputError(
            f"{columns['file']}: the name {shown} is not UTF-8; unpack it, rename the file, and "
            "set download.origin to the folder"
        ) from error
    return pa.table(arrays, schema=MEMBERS)


def _array(values: object, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(values, str | int):
        return pa.repeat(pa.scalar(values, kind), count)
    return pa.array(values, kind)


def check_names(members: pa.Table, where: str) -> None:
    """Raise InputError where a name leads out of its folder, has backslashes or occurs twice."""
    names = members["name"]
    for pattern, wrong in ((_UNSAFE, "leads out of its folder"), (r"\\", _BACKSLASHES)):
        found = pc.match_substring_regex(names, pattern)
        if pc.any(found).as_py():
            member = members.filter(found).slice(0, 1).to_pylist()[0]
            raise InputError(
                f"{_joined(where, member['file'])}: refused, the member {member['name']!r} {wrong}"
            )
    distinct = pc.count_distinct(names).as_py()
    pa.default_memory_pool().release_unused()  # its hash table is larger than the names
    if distinct < len(names):
        raise InputError(_repeated(members, where))


def _repeated(members: pa.Table, where: str) -> str:
    """Return what is wrong with a name that occurs twice, and what to do."""
    counts = pc.value_counts(members["name"])
    name = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[0].as_py()
    files = set(members.filter(pc.equal(members["name"], name))["file"].to_pylist())
    said = f"{where}: refused, two members are called {name!r}"
    archives = sorted(files - {name, ""})
    if not archives:
        return said
    if len(files) == 1:
        return f"{said}, both in {archives[0]}"
    places = " and ".join([*archives, "a file of its own"][: len(files)])
    return (
        f"{said}: {places}; move {archives[0]} elsewhere, or set download.origin to it: "
        f"{_joined(where, archives[0])}"
    )


def _joined(where: str, file: str) -> str:
    return "/".join(filter(None, (where, file)))
