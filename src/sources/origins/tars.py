"""Tar archives on this machine: their members, and plain copies of compressed ones."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tarfile import AREGTYPE, BLOCKSIZE, DIRTYPE, REGTYPE, TarInfo
from typing import Any

import numpy as np
import pyarrow as pa

from src.core.cli import InputError
from src.core.files import replacing
from src.images.shards import check_end, read_tar, stored_size
from src.sources.local.cache import Cache, cache_key
from src.sources.local.paths import LeftOut
from src.sources.origins.members import are_text, link_target, resolved, table
from src.sources.origins.zips import MAX_CONTENT, MAX_RATIO

_AT_ONCE = 4096
_PIECE = 2**20
_OPENERS: dict[str, Callable[[Path], Any]] = {
    "gz": gzip.open,
    "bz": bz2.open,
    "xz": lzma.open,
}  # "bz2": the digit is cut off

Entry = tuple[str, int, int]  # name, offset and size of a member


def plain_copy(path: Path, kind: str, cache: Cache) -> Path:
    """Return a tar archive without compression: `path`, or a copy of it that the cache keeps.

    Raises:
        InputError: it is not compressed as its suffix `kind` says, damaged, or a bomb.
        OSError: the disk is full.
    """
    opener = _OPENERS.get(kind.rstrip("2")[-2:])
    if opener is None:
        return path
    stat = path.stat()
    target = cache.path(cache_key("plain", str(path), str(stat.st_size), str(stat.st_mtime_ns)))
    if not target.is_file():
        try:
            with replacing(target) as copy, opener(path) as packed, copy.open("wb") as output:
                limit = max(MAX_CONTENT, MAX_RATIO * stat.st_size)
                while piece := packed.read(_PIECE):
                    output.write(piece)
                    if output.tell() > limit:
                        raise InputError(f"{path}: refused, it unpacks to more than {limit} bytes")
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"{path}: not compressed as {kind}, or damaged: {error}") from error
    return target


def read_tar_members(
    path: Path, file: str, version: int, where: str, left_out: LeftOut
) -> pa.Table:
    """Return the members of the tar archive at `path`, which origins call `file`; no folders.

    Links to a member are that member by another name; others, and devices, are counted.

    Raises:
        InputError: it is truncated or corrupt, or has a sparse member.
    """
    entries = _read_plain(path)
    if entries is None:
        entries = _entries(read_tar(path, where), where, left_out)
    text = are_text([name for name, *_ in entries], where, left_out).tolist()
    kept = [entry for entry, is_text in zip(entries, text, strict=True) if is_text]
    names, offsets, sizes = ([entry[i] for entry in kept] for i in range(3))
    return table(
        {"name": names, "file": file, "offset": offsets, "length": sizes, "size": sizes}
        | {"stamp": version, "zipped": False},
        len(kept),
    )


def _entries(members: Sequence[TarInfo], where: str, left_out: LeftOut) -> list[Entry]:
    entries: list[Entry] = []
    links: dict[str, str] = {}
    for member in members:
        name = member.name.removeprefix("./")
        if member.issparse():
            raise InputError(
                f"{where}: {name!r} is stored sparse, with holes, which is not read; write the "
                "archive without --sparse, or unpack it and set download.origin to the folder"
            )
        if member.isfile():
            entries.append((name, member.offset_data, member.size))
        elif member.islnk():
            links[name] = member.linkname.removeprefix("./")
        elif member.issym():
            links[name] = link_target(name, member.linkname)
        elif not member.isdir():
            left_out.add("devices or pipes", name)
    places = {entry[0]: row for row, entry in enumerate(entries)}
    found = resolved(links, places, left_out)
    return entries + [(name, *entries[row][1:]) for name, row in found.items()]


def _read_plain(path: Path) -> list[Entry] | None:
    """Return what the standard library finds in an archive, or None where it had better look.

    It takes ten times as long. Nearly all archives of images are plain: short names in ASCII, no
    links, no damage.

    Source: POSIX.1-1988, ustar: name at byte 0 of a header, size at 124, checksum at 148, type at
    156, the beginning of a longer name at 345.
    """
    entries: list[Entry] = []
    unchecked: list[bytes] = []
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            at = 0
            while (header := data[at : at + BLOCKSIZE])[:1] not in (b"", b"\0"):
                unchecked.append(header)
                name, kind, size = _name(header), header[156:157], _octal(header[124:136])
                # Not REGULAR_TYPES, of which GNU's sparse files are.
                if kind in (REGTYPE, AREGTYPE) and not name.endswith("/"):
                    entries.append((name.removeprefix("./"), at + BLOCKSIZE, size))
                elif kind != DIRTYPE or size:
                    return None
                at += stored_size(size)
                if len(unchecked) == _AT_ONCE:
                    _check_plain(unchecked)
                    unchecked.clear()
        _check_plain(unchecked)
        check_end(path, at)
    except ValueError:  # InputError, too
        return None
    return entries


def _check_plain(headers: Sequence[bytes]) -> None:
    """Raise ValueError where a header is not whole, not ASCII or has another checksum."""
    blocks = np.frombuffer(b"".join(headers), np.uint8).reshape(len(headers), BLOCKSIZE)
    without_itself = blocks.sum(axis=1) - blocks[:, 148:156].sum(axis=1) + 8 * ord(" ")
    stated = [_octal(header[148:156]) for header in headers]
    if blocks.max(initial=0) >= 0x80 or (without_itself != stated).any():
        raise ValueError(headers)


def _name(header: bytes) -> str:
    name, start = (header[at:end].partition(b"\0")[0] for at, end in ((0, 100), (345, 500)))
    return (start + b"/" + name if start else name).decode("ascii")


def _octal(field: bytes) -> int:
    return int(field.strip(b" \0") or b"0", 8)
