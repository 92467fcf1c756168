"""Zip archives read by ranges: the directory of millions of members, and single members.

Source: PKWARE's .ZIP File Format Specification (APPNOTE) 6.3.10; section numbers are given below.
"""

import bz2
import contextlib
import itertools
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from src.core.arrays import BoolArray, IntArray, UInt16Array
from src.core.cli import InputError
from src.sources.local.paths import LeftOut
from src.sources.local.prefetch import in_order
from src.sources.origins.members import Member, are_text, link_target, resolved, table
from src.sources.origins.stores import Missing

Read = Callable[[int, int], bytes | memoryview]

_END = struct.Struct("<4s4H2IH")  # 4.3.16
_END64_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_LOCAL = struct.Struct("<4s5H3I2H")  # 4.3.7
_LENGTHS = struct.Struct("<3H")
_LENGTHS_AT = 28  # of name, extra field and comment, in an entry of the directory
_FIELDS = (  # 4.3.12
    "signature:u4 made_by:u2 needed:u2 flags:u2 method:u2 time:u4 crc:u4 packed:u4 size:u4 "
    "name:u2 extra:u2 comment:u2 disk:u2 internal:u2 mode:u4 offset:u4"
)
_ENTRY = np.dtype([(name, f"<{kind}") for name, kind in (f.split(":") for f in _FIELDS.split())])
_SIGNATURE, _LOCAL_SIGNATURE = 0x02014B50, b"PK\3\4"
_MAX_COMMENT = 0xFFFF
_OVERFLOW = 0xFFFFFFFF  # the value stands in the zip64 extra field
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_UNIX, _MACOS, _LINK, _TYPE = 3, 19, 0o120000, 0o170000
_STORED = 0
_UNPACKERS: dict[int, Callable[[], Any]] = {
    8: lambda: zlib.decompressobj(-zlib.MAX_WBITS),
    12: bz2.BZ2Decompressor,
}
# Size, version 1 and CRC-32 of an extra field 0x7075; anywhere, until the CRC says otherwise.
_UNICODE_PATH = re.compile(rb"up(?=(..\x01.{4}))", re.DOTALL)

# ArtiFact's directory takes about 275 MB.
_MAX_DIRECTORY = 2 * 10**9
_PIECE = 16 * 2**20
_PIECES_IN_FLIGHT = 8
_NAMES_AT_ONCE = 100_000
# No image and no table of ours is larger, or shrinks more: deflate's limit is 1,032.
MAX_CONTENT = 2**30
MAX_RATIO = 200
_SMALL = 2**20


def read_zip_members(read: Read, file: str, size: int, where: str, left_out: LeftOut) -> pa.Table:
    """Return the members of the zip archive `file` of `size` bytes, folders left out.

    `read(start, end)` returns a part of it, and `where` is what messages call it. Symbolic links to
    a member are that member by another name; others are counted.

    Raises:
        InputError: it is no zip archive, is damaged, or holds an encrypted member.
    """
    begin, length, count, shift = _find_directory(read, size, where)
    pieces = [(i, min(i + _PIECE, begin + length)) for i in range(begin, begin + length, _PIECE)]
    data = b"".join(in_order(lambda piece: read(*piece), pieces, _PIECES_IN_FLIGHT))
    starts = _entry_starts(data, count, where)
    entries = _gather(data, starts, _ENTRY)
    _check_entries(entries, where)
    names = _names(data, starts, entries, where, left_out)
    offset, packed, content = _sizes(data, starts, entries, where)
    offset += shift
    del data  # hundreds of megabytes; the table comes next
    length_of = _record_lengths(offset, packed, entries["name"], begin, where)
    members = table(
        {"name": names, "file": file, "offset": offset, "length": length_of, "size": content}
        | {"stamp": entries["crc"], "zipped": True},
        len(entries),
    )
    links = (entries["made_by"] >> 8 == _UNIX) & (entries["mode"] >> 16 & _TYPE == _LINK)
    if links.any():
        members = _without_links(members, pa.array(links), read, left_out)
    # A filter drops nulls, the stray names.
    return members.filter(pc.invert(pc.ends_with(members["name"], "/")))


def _without_links(members: pa.Table, is_link: pa.Array, read: Read, left_out: LeftOut) -> pa.Table:
    """Return the members with the target's bytes for each link to one of them."""
    links = [Member(**row) for row in members.filter(is_link).to_pylist()]
    records = in_order(lambda m: read(m.offset, m.offset + m.length), links, _PIECES_IN_FLIGHT)
    targets = {
        link.name: link_target(
            link.name, content(record, link.name, link.size, link.stamp).decode(errors="replace")
        )
        for link, record in zip(links, records, strict=True)
    }
    members = members.filter(pc.invert(is_link))
    places = {name: row for row, name in enumerate(members["name"].to_pylist())}
    found = resolved(targets, places, left_out)
    copies = members.take(pa.array(found.values(), pa.int64()))
    copies = copies.set_column(0, "name", pa.array(found.keys(), pa.large_string()))
    return pa.concat_tables([members, copies])


def content(record: bytes | memoryview, name: str, size: int, crc: int) -> bytes:
    """Return the content of a member from its record: local header and packed content.

    Raises:
        Missing: the record is not this member's, or its CRC-32 is wrong.
        InputError: it declares or holds more than an image can (a zip bomb), or is packed by a
            method other than stored and deflate.
    """
    if size > MAX_CONTENT or (size > _SMALL and size > MAX_RATIO * len(record)):
        raise InputError(f"{name}: refused, {len(record)} bytes that unpack to {size} are no image")
    if len(record) < _LOCAL.size or record[:4] != _LOCAL_SIGNATURE:
        raise Missing("no zip record where the directory says")
    header = _LOCAL.unpack_from(record)
    method, begin = header[3], _LOCAL.size + header[9] + header[10]
    data = _unpacked(memoryview(record)[begin:], method, size, name)
    if len(data) != size or zlib.crc32(data) != crc:
        raise Missing("wrong CRC-32 or size: the archive is damaged")
    return data


def _unpacked(packed: memoryview, method: int, size: int, name: str) -> bytes:
    if method == _STORED:
        return bytes(packed[:size])
    if method not in _UNPACKERS:
        raise InputError(
            f"{name}: packed by method {method}, only stored, deflate and bzip2 are read; unpack "
            "the archive with `7z x` and set download.origin to the folder"
        )
    try:
        # One byte more than declared, so that a member that lies about its size is noticed.
        data: bytes = _UNPACKERS[method]().decompress(packed, size + 1)
    except (zlib.error, OSError, EOFError) as error:
        raise Missing(f"does not unpack: {error}") from error
    return data


def _find_directory(read: Read, size: int, where: str) -> tuple[int, int, int, int]:
    """Return begin and length of the directory, its number of entries, and bytes before the zip."""
    tail_begin = max(0, size - _END64.size - _END64_LOCATOR.size - _END.size - _MAX_COMMENT)
    tail = bytes(read(tail_begin, size))
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise InputError(f"{where}: not a zip archive, or its end is missing")
    *_, count, length, begin, _comment = _END.unpack_from(tail, at)
    locator = at - _END64_LOCATOR.size
    end = tail_begin + at
    if locator >= 0 and tail.startswith(b"PK\6\7", locator):
        record = locator - _END64.size
        if record < 0 or not tail.startswith(b"PK\6\6", record):
            raise InputError(f"{where}: damaged zip archive: no zip64 record before its end")
        *_, count, length, begin = _END64.unpack_from(tail, record)
        end = tail_begin + record
    shift = end - length - begin  # a program may stand before the archive
    if shift < 0 or length > _MAX_DIRECTORY or count * _ENTRY.itemsize > length:
        raise InputError(f"{where}: damaged zip archive: no directory of {length} bytes at {begin}")
    if not count:
        raise InputError(f"{where}: the zip archive is empty")
    return begin + shift, length, count, shift


def _entry_starts(data: bytes, count: int, where: str) -> IntArray:
    # An entry says where the next one begins, so this is the one loop over all of them in Python.
    starts = []
    at, end = 0, len(data) - _ENTRY.itemsize
    unpack = _LENGTHS.unpack_from
    for _ in range(count):
        if at > end:
            raise InputError(f"{where}: damaged zip archive: its directory ends too early")
        starts.append(at)
        name, extra, comment = unpack(data, at + _LENGTHS_AT)
        at += _ENTRY.itemsize + name + extra + comment
    if at > len(data):
        raise InputError(f"{where}: damaged zip archive: its directory ends too early")
    return np.array(starts, dtype=np.int64)


def _check_entries(entries: NDArray[Any], where: str) -> None:
    for wrong, what in (
        (entries["signature"] != _SIGNATURE, "its directory is damaged"),
        (
            entries["flags"] & _ENCRYPTED != 0,
            "it is encrypted; unpack it with `7z x`, which asks for the password, and set "
            "download.origin to the folder",
        ),
    ):
        if wrong.any():
            raise InputError(f"{where}: refused, member {int(wrong.argmax())}: {what}")


def _names(
    data: bytes, starts: IntArray, entries: NDArray[Any], where: str, left_out: LeftOut
) -> pa.Array:
    """Return the name of each entry; null for stray ones that are left out."""
    lengths = entries["name"]
    ends = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ends[1:])
    source, text = np.frombuffer(data, np.uint8), np.empty(ends[-1], np.uint8)
    begins = starts + _ENTRY.itemsize
    for first in range(0, len(starts), _NAMES_AT_ONCE):  # the index array is eight times the text
        part = slice(first, first + _NAMES_AT_ONCE)
        begin, end = ends[part][0], ends[min(first + _NAMES_AT_ONCE, len(starts))]
        shifts = np.repeat(begins[part] - ends[part][: len(begins[part])], lengths[part])
        text[begin:end] = source[shifts + np.arange(begin, end)]
    unicode = _unicode_names(data, starts, entries)
    if text.max(initial=0) < 0x80 and not unicode:
        return pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(ends), pa.py_buffer(text))
    raw = (text[a:b].tobytes() for a, b in itertools.pairwise(ends))
    columns = zip(raw, entries["flags"].tolist(), (entries["made_by"] >> 8).tolist(), strict=True)
    names = [unicode.get(row) or _decoded(*entry) for row, entry in enumerate(columns)]
    is_text = are_text(names, where, left_out).tolist()
    return pa.array(
        [name if good else None for name, good in zip(names, is_text, strict=True)],
        pa.large_string(),
    )


def _unicode_names(data: bytes, starts: IntArray, entries: NDArray[Any]) -> dict[int, str]:
    """Return the names of Info-ZIP's extra field 0x7075 whose CRC is that of the plain name."""
    names: dict[int, str] = {}
    for match in _UNICODE_PATH.finditer(data):
        at, (size, crc) = match.start(), struct.unpack("<HxI", match[1])
        row = int(np.searchsorted(starts, at, "right")) - 1
        begin = int(starts[row]) + _ENTRY.itemsize
        end = begin + int(entries["name"][row])
        is_field = size > 5 and end <= at <= end + int(entries["extra"][row]) - 4 - size
        if is_field and zlib.crc32(data[begin:end]) == crc:
            names[row] = data[at + 9 : at + 4 + size].decode(errors="surrogateescape")
    return names


def _decoded(name: bytes, flags: int, system: int) -> str:
    """Return a name as all programs agree to read it; surrogates stand for what is no text.

    Source: APPNOTE D.1 and 4.6.9; programs on Unix and macOS write UTF-8 without saying so.
    """
    if flags & _UTF8:
        return name.decode(errors="surrogateescape")
    if system in (_UNIX, _MACOS):
        with contextlib.suppress(UnicodeDecodeError):
            return name.decode()
    return name.decode("cp437")


def _sizes(
    data: bytes, starts: IntArray, entries: NDArray[Any], where: str
) -> tuple[IntArray, IntArray, IntArray]:
    """Return offsets, packed sizes and sizes, from the zip64 extra fields where they overflow."""
    fields = ("size", "packed", "offset")  # in the order of the extra field, 4.5.3
    values = [entries[name].astype(np.int64) for name in fields]
    overflow = [entries[name] == _OVERFLOW for name in fields]
    rows = np.flatnonzero(np.logical_or.reduce(overflow))
    begins = starts[rows] + _ENTRY.itemsize + entries["name"][rows]
    wanted = np.add.reduce([each[rows] for each in overflow], dtype=np.int64)
    usual = _begins_with_zip64(data, begins, entries["extra"][rows], wanted)
    at = begins[usual] + 4
    for value, overflows in zip(values, overflow, strict=True):
        here = overflows[rows[usual]]
        value[rows[usual][here]] = _gather(data, at[here], "<i8")
        at = at + 8 * here
    for row, begin in zip(rows[~usual].tolist(), begins[~usual].tolist(), strict=True):
        extra = data[begin : begin + int(entries["extra"][row])]
        columns = [i for i in range(len(fields)) if overflow[i][row]]
        found = _zip64(extra, len(columns))
        if len(found) < len(columns):
            raise InputError(f"{where}: damaged zip archive: member {row} lacks its zip64 sizes")
        for column, value64 in zip(columns, found, strict=True):
            values[column][row] = value64
    size, packed, offset = values
    return offset, packed, size


def _begins_with_zip64(
    data: bytes, begins: IntArray, extra: UInt16Array, wanted: IntArray
) -> BoolArray:
    """Return which extra fields have the zip64 one first, with all that is wanted: nearly all."""
    usual = extra >= 4 + 8 * wanted
    heads = _gather(data, begins[usual], "<u4")
    usual[usual] = (heads & 0xFFFF == 1) & (heads >> 16 >= 8 * wanted[usual])
    return usual


def _gather(data: bytes, at: IntArray, kind: str | np.dtype[Any]) -> NDArray[Any]:
    """Return the number of type `kind` at each of these places."""
    width = np.dtype(kind).itemsize
    window = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), width)
    return window[at].view(kind).reshape(-1)


def _zip64(extra: bytes, count: int) -> tuple[int, ...]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1 and length >= 8 * count and at + 4 + 8 * count <= len(extra):
            return struct.unpack_from(f"<{count}Q", extra, at + 4)
        at += 4 + length
    return ()


def _record_lengths(
    offset: IntArray, packed: IntArray, names: UInt16Array, end: int, where: str
) -> IntArray:
    """Return how far each record reaches: to the next one, but no further than it can."""
    order = np.argsort(offset, kind="stable")
    following = np.append(offset[order][1:], end)
    least = _LOCAL.size + names[order].astype(np.int64) + packed[order]
    lengths = following - offset[order]
    if (overlap := lengths < least).any() or offset.min(initial=0) < 0:
        raise InputError(
            f"{where}: refused, member {int(order[overlap.argmax()])} overlaps another one or the "
            "directory, as in a zip bomb"
        )
    result = np.empty_like(lengths)
    # Behind the content there may be sizes again (16 or 24 bytes); an extra field has a limit.
    result[order] = np.minimum(lengths, least + _MAX_COMMENT + 24)
    return result
