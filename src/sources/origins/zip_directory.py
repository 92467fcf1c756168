"""The directory of a zip archive, of millions of members, read by ranges -> a table of members.

Source: PKWARE's .ZIP File Format Specification (APPNOTE) 6.3.10; section numbers are given below.
"""

import contextlib
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from src.core.arrays import IntArray
from src.core.cli import InputError
from src.sources.local.paths import LeftOut
from src.sources.local.prefetch import in_order
from src.sources.origins.members import Member, are_text, link_target, resolved, table
from src.sources.origins.zips import LOCAL, content

Read = Callable[[int, int], bytes | memoryview]

_END = struct.Struct("<4s4H2IH")  # 4.3.16
_END64_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
# 4.3.12: signature, made by, (needed), flags, (method, time, date), CRC, packed size, size, lengths
# of name, extra field and comment, (disk, internal), mode, offset
_ENTRY = struct.Struct("<4sH2xH6x3I3H4x2I")
_SIGNATURE = b"PK\1\2"
_MAX_COMMENT = 0xFFFF
_OVERFLOW = 0xFFFFFFFF  # the value stands in the zip64 extra field
_ZIP64, _UNICODE_PATH = 1, 0x7075  # kinds of extra fields
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_UNIX, _MACOS, _LINK, _TYPE = 3, 19, 0o120000, 0o170000

# ArtiFact's directory takes about 275 MB.
_MAX_DIRECTORY = 2 * 10**9
_PIECE = 16 * 2**20
_IN_FLIGHT = 8


def read_zip_members(read: Read, file: str, size: int, where: str, left_out: LeftOut) -> pa.Table:
    """Return the members of the zip archive `file` of `size` bytes, folders left out.

    `read(start, end)` returns a part of it, and `where` is what messages call it. Symbolic links to
    a member are that member by another name; others are counted.

    Raises:
        InputError: it is no zip archive, is damaged, or holds an encrypted member.
    """
    begin, length, count, shift = _find_directory(read, size, where)
    pieces = [(i, min(i + _PIECE, begin + length)) for i in range(begin, begin + length, _PIECE)]
    data = b"".join(in_order(lambda piece: read(*piece), pieces, _IN_FLIGHT))
    entries = _read_entries(data, count, where, left_out)
    del data  # hundreds of megabytes; the table comes next
    offset = np.array(entries.offset) + shift
    columns = {
        "name": pa.LargeStringArray.from_buffers(
            len(offset), pa.py_buffer(entries.name_ends), pa.py_buffer(entries.names)
        ),
        "file": file,
        "offset": offset,
        "length": _record_lengths(offset, np.array(entries.least), begin, where),
        "size": np.array(entries.size),
        "stamp": np.array(entries.crc, dtype=np.uint64),
        "zipped": True,
    }
    members = table(columns, len(offset))
    return _without_links(members, entries.links, read, left_out) if entries.links else members


class _Entries(NamedTuple):
    """The entries of a directory, column by column: millions of objects would not fit."""

    names: bytearray  # one behind the other, UTF-8
    name_ends: "array[int]"
    offset: "array[int]"
    least: "array[int]"  # bytes that a record takes at least
    size: "array[int]"
    crc: "array[int]"
    links: list[int]  # rows


def _read_entries(data: bytes, count: int, where: str, left_out: LeftOut) -> _Entries:
    """Return the entries that are files, or links to some."""
    empty = [array("q") for _ in range(4)]
    entries = _Entries(bytearray(), array("q", [0]), empty[0], empty[1], empty[2], empty[3], [])
    for row, (fields, name, extra) in enumerate(_entries(data, count, where)):
        _, made_by, flags, crc, packed, size, length, _, _, mode, offset = fields
        if _OVERFLOW in (size, packed, offset):
            size, packed, offset = _zip64(extra, (size, packed, offset), where, row)
        if not name.isascii() or b"up" in extra:
            text = _decoded(name, flags, made_by >> 8, extra)
            if not are_text([text], where, left_out).all():
                continue
            name = text.encode()
        if name.endswith(b"/"):
            continue
        if made_by >> 8 == _UNIX and mode >> 16 & _TYPE == _LINK:
            entries.links.append(len(entries.offset))
        entries.names.extend(name)
        entries.name_ends.append(len(entries.names))
        entries.offset.append(offset)
        entries.least.append(LOCAL.size + length + packed)
        entries.size.append(size)
        entries.crc.append(crc)
    return entries


def _entries(data: bytes, count: int, where: str) -> Iterator[tuple[tuple[Any, ...], bytes, bytes]]:
    """Yield the fields of `_ENTRY`, the name and the extra fields of each entry."""
    at = 0
    for row in range(count):
        begin = at + _ENTRY.size
        if begin > len(data):
            raise InputError(f"{where}: damaged zip archive: its directory ends too early")
        fields = _ENTRY.unpack_from(data, at)
        signature, _, flags, *_, name, extra, comment, _, _ = fields
        end = begin + name
        at = end + extra + comment
        if signature != _SIGNATURE or flags & _ENCRYPTED or at > len(data):
            raise InputError(f"{where}: refused, member {row}: {_fault(signature, flags)}")
        yield fields, data[begin:end], data[end : end + extra]


def _fault(signature: bytes, flags: int) -> str:
    if signature == _SIGNATURE and flags & _ENCRYPTED:
        return (
            "it is encrypted; unpack it with `7z x`, which asks for the password, and set "
            "download.origin to the folder"
        )
    return "the directory of the archive is damaged"


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    """Return the extra fields of an entry by kind (4.5.1)."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        fields.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def _zip64(
    extra: bytes, values: tuple[int, int, int], where: str, number: int
) -> tuple[int, int, int]:
    """Return size, packed size and offset, those that overflow from their extra field (4.5.3)."""
    field = _extra_fields(extra).get(_ZIP64, b"")
    numbers = [value for (value,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
    if len(numbers) < values.count(_OVERFLOW):
        raise InputError(f"{where}: damaged zip archive: member {number} lacks its zip64 sizes")
    size, packed, offset = (v if v != _OVERFLOW else numbers.pop(0) for v in values)
    if max(size, packed, offset) >= 2**63:
        raise InputError(f"{where}: damaged zip archive: member {number} is too large")
    return size, packed, offset


def _without_links(members: pa.Table, rows: list[int], read: Read, left_out: LeftOut) -> pa.Table:
    """Return the members with the target's bytes for each link to one of them."""
    is_link = np.zeros(len(members), dtype=np.bool_)
    is_link[rows] = True
    links = [Member(**row) for row in members.take(pa.array(rows)).to_pylist()]
    records = in_order(lambda m: read(m.offset, m.offset + m.length), links, _IN_FLIGHT)
    targets = {
        link.name: link_target(
            link.name, content(record, link.name, link.size, link.stamp).decode(errors="replace")
        )
        for link, record in zip(links, records, strict=True)
    }
    members = members.filter(pa.array(~is_link))
    places = {name: row for row, name in enumerate(members["name"].to_pylist())}
    found = resolved(targets, places, left_out)
    copies = members.take(pa.array(found.values(), pa.int64()))
    copies = copies.set_column(0, "name", pa.array(found.keys(), pa.large_string()))
    return pa.concat_tables([members, copies])


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
    if shift < 0 or length > _MAX_DIRECTORY or count * _ENTRY.size > length:
        raise InputError(f"{where}: damaged zip archive: no directory of {length} bytes at {begin}")
    if not count:
        raise InputError(f"{where}: the zip archive is empty")
    return begin + shift, length, count, shift


def _decoded(name: bytes, flags: int, system: int, extra: bytes) -> str:
    """Return a name as all programs agree to read it; surrogates stand for what is no text.

    Source: APPNOTE D.1 and 4.6.9; programs on Unix and macOS write UTF-8 without saying so.
    """
    field = _extra_fields(extra).get(_UNICODE_PATH, b"")  # version 1, CRC-32 of `name`, UTF-8
    if field[:5] == b"\1" + struct.pack("<I", zlib.crc32(name)):
        return field[5:].decode(errors="surrogateescape")
    if flags & _UTF8:
        return name.decode(errors="surrogateescape")
    if system in (_UNIX, _MACOS):
        with contextlib.suppress(UnicodeDecodeError):
            return name.decode()
    return name.decode("cp437")


def _record_lengths(offset: IntArray, least: IntArray, end: int, where: str) -> IntArray:
    """Return how far each record reaches: to the next one, but no further than it can."""
    order = np.argsort(offset, kind="stable")
    lengths = np.append(offset[order][1:], end) - offset[order]
    if (overlap := lengths < least[order]).any() or offset.min(initial=0) < 0:
        raise InputError(
            f"{where}: refused, member {int(order[overlap.argmax()])} overlaps another one or the "
            "directory, as in a zip bomb; unpack it, if you trust it, and set download.origin to "
            "the folder"
        )
    result = np.empty_like(lengths)
    # Behind the content there may be sizes again (16 or 24 bytes); an extra field has a limit.
    result[order] = np.minimum(lengths, least[order] + _MAX_COMMENT + 24)
    return result
