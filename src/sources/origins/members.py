"""The table of an origin's members: what they are called and which bytes to read for each."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from src.core.cli import InputError
from src.sources.local.paths import HIDDEN, HIDDEN_REASON, IMAGE_SUFFIXES, LINK_REASON, LeftOut

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
# No table and no terminal takes these; C1, and what counts as the end of a line, included.
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]"
_MARKER_REASON = "empty markers of folders"
_STRAY_REASON = "names that are no plain text, of files that are no images"


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


def are_text(names: Sequence[str], where: str, left_out: LeftOut) -> NDArray[np.bool_]:
    """Return which names are UTF-8: those of old machines hold surrogates here.

    Raises:
        InputError: another one is an image's or a table's.
    """
    text = np.ones(len(names), dtype=np.bool_)
    for row, name in enumerate(names):
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            text[row] = False
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            _leave_out_or_refuse(shown, where, "is not UTF-8", left_out)
    return text


def resolved(
    links: Mapping[str, str], places: Mapping[str, int], left_out: LeftOut
) -> dict[str, int]:
    """Return what is in `places` for the target of each of these links inside an archive.

    Links to anything else are counted as left out; chains are followed.
    """
    found = {}
    for name in links:
        target, seen = name, {name}
        while target in links and (target := links[target]) not in seen:
            seen.add(target)
        if target in places:
            found[name] = places[target]
        else:
            left_out.add(LINK_REASON, name)
    return found


def link_target(name: str, target: str) -> str:
    """Return what a symbolic link `name` in an archive leads to, as a name in the archive."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def usable(members: pa.Table, where: str, left_out: LeftOut) -> pa.Table:
    """Return the members without what is hidden, marks a folder, or has control characters.

    Raises:
        InputError: a name leads out of its folder, has backslashes, occurs twice, or is that of an
            image and has control characters.
    """
    members = _without(members, HIDDEN, HIDDEN_REASON, left_out)
    members = _without_markers(members, left_out)
    for pattern, wrong in ((_UNSAFE, "leads out of its folder"), (r"\\", _BACKSLASHES)):
        if found := _first(members, pattern):
            raise InputError(f"{joined(where, found.file)}: refused, {found.name!r} {wrong}")
    stray = members.filter(pc.match_substring_regex(members["name"], _CONTROL))
    for name, file in zip(stray["name"].to_pylist(), stray["file"].to_pylist(), strict=True):
        inside = joined(where, file) if name != file else where
        _leave_out_or_refuse(repr(name), inside, "has control characters", left_out)
    if len(stray):
        members = members.filter(pc.invert(pc.match_substring_regex(members["name"], _CONTROL)))
    _check_unique(members, where)
    return members


def _first(members: pa.Table, pattern: str) -> Member | None:
    found = pc.match_substring_regex(members["name"], pattern)
    if not pc.any(found).as_py():
        return None
    return Member(**members.filter(found).slice(0, 1).to_pylist()[0])


def _without(members: pa.Table, pattern: str, reason: str, left_out: LeftOut) -> pa.Table:
    found = pc.match_substring_regex(members["name"], pattern)
    count = pc.sum(found).as_py()
    if not count:
        return members
    left_out.add(reason, members["name"].filter(found)[0].as_py(), count)
    return members.filter(pc.invert(found))


def _without_markers(members: pa.Table, left_out: LeftOut) -> pa.Table:
    """Leave out empty "files" that stand for folders, as consoles, Hadoop and s3fs write them."""
    empty = np.flatnonzero(np.asarray(pc.equal(members["size"], 0)))
    if not len(empty):
        return members
    names = members["name"].take(pa.array(empty)).to_pylist()
    folders = {
        parent
        for folder in pc.unique(
            pc.replace_substring_regex(members["name"], r"/?[^/]*$", "")
        ).to_pylist()
        for parent in _with_parents(folder)
    }
    marks = [name in folders or name.endswith(("/", "_$folder$")) for name in names]
    if not any(marks):
        return members
    left_out.add(_MARKER_REASON, names[marks.index(True)], sum(marks))
    keep = np.ones(len(members), dtype=np.bool_)
    keep[empty[marks]] = False
    return members.filter(pa.array(keep))


def _with_parents(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts) + 1)]


def _leave_out_or_refuse(shown: str, where: str, wrong: str, left_out: LeftOut) -> None:
    suffix = posixpath.splitext(shown.rstrip("'\""))[1].lower()
    if suffix not in IMAGE_SUFFIXES and suffix != ".csv":
        left_out.add(_STRAY_REASON, shown)
        return
    raise InputError(
        f"{where}: the name {shown} {wrong}; rename it (in an archive: unpack that, rename it, and "
        "set download.origin to the folder). Many names of an old encoding at once: "
        "convmv -r -f latin1 -t utf8 --notest FOLDER"
    )


def _check_unique(members: pa.Table, where: str) -> None:
    distinct = pc.count_distinct(members["name"]).as_py()
    pa.default_memory_pool().release_unused()  # its hash table is larger than the names
    if distinct < len(members):
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
        f"{joined(where, archives[0])}"
    )


def joined(where: str, file: str) -> str:
    """Return what messages call a file below `where`, which may be the file itself."""
    return "/".join(filter(None, (where, file)))
