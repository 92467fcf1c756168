"""Tar archives: their members, from an index beside them or from the archive itself."""

import tarfile
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tarfile import BLOCKSIZE, DIRTYPE, REGULAR_TYPES

import numpy as np
import pyarrow as pa

from src.core.cli import InputError
from src.images.shards import stored_size
from src.sources.origins.members import table

INDEX_SUFFIX = ".idx"

_AT_ONCE = 4096

Place = tuple[str, int, int]  # name, offset and size of a member


def read_members(path: Path, file: str, version: int) -> pa.Table:
    """Return the members of the tar archive at `path`, which origins call `file`; no folders.

    Raises:
        InputError: it is truncated, corrupt or compressed, or holds a link or a device.
    """
    if (plain := _read_plain(path)) is not None:
        return _table(plain, file, version)
    places: list[Place] = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile():
                    places.append((member.name.removeprefix("./"), member.offset_data, member.size))
                elif not member.isdir():
                    raise InputError(f"{file}: refused, {member.name!r} is a link or a device")
            end = archive.offset
    except tarfile.TarError as error:
        raise InputError(
            f"{file}: no tar archive, or a compressed or damaged one: {error}"
        ) from error
    _check_end(path, end, file)
    return _table(places, file, version)


def _read_plain(path: Path) -> list[Place] | None:
    """Return what the standard library finds in an archive, or None where it had better look.

    It takes ten times as long. Nearly all archives of images are plain: short names in ASCII, no
    links, no damage.

    Source: POSIX.1-1988, ustar: name at byte 0 of a header, size at 124, checksum at 148, type at
    156, the beginning of a longer name at 345.
    """
    places: list[Place] = []
    unchecked: list[bytes] = []
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            at = 0
            while (header := data[at : at + BLOCKSIZE])[:1] not in (b"", b"\0"):
                unchecked.append(header)
                name, kind, size = _name(header), header[156:157], _octal(header[124:136])
                if kind in REGULAR_TYPES and not name.endswith("/"):
                    places.append((name.removeprefix("./"), at + BLOCKSIZE, size))
                elif kind != DIRTYPE or size:
                    return None
                at += stored_size(size)
                if len(unchecked) == _AT_ONCE:
                    _check_plain(unchecked)
                    unchecked.clear()
        _check_plain(unchecked)
    except ValueError:
        return None
    return places if header == bytes(BLOCKSIZE) else None


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


def parse_index(text: str, file: str, version: int) -> pa.Table:
    """Return the members of the tar archive `file` from the index that was made beside it.

    A tar archive has no directory: without an index all of it must be read to find one member.

    Source: the format `v1.2` of wds2idx, a tool of NVIDIA DALI: a line of version and number of
    samples, then one line a sample with suffix, offset, size and name of each of its members.

    Raises:
        InputError: it is not such an index.
    """
    header, *lines = text.splitlines() or [""]
    try:
        version_name, count = header.split()
        places = [place for line in lines for place in _sample(line.split())]
        if version_name != "v1.2" or int(count) != len(lines):
            raise ValueError(header)
    except ValueError as error:
        raise InputError(f"{file}{INDEX_SUFFIX}: not an index of wds2idx, v1.2: {error}") from error
    return _table(places, file, version)


def _sample(words: list[str]) -> list[Place]:
    fields = zip(words[1::4], words[2::4], words[3::4], strict=True)
    return [(name, int(offset), int(size)) for offset, size, name in fields]


def _check_end(path: Path, end: int, file: str) -> None:
    # tarfile takes a damaged header in the middle of an archive for its end, and says nothing.
    with path.open("rb") as archive:
        archive.seek(end)
        if archive.read(BLOCKSIZE) != bytes(BLOCKSIZE):
            raise InputError(f"{file}: damaged tar archive: no header at byte {end}")


def _table(places: list[Place], file: str, version: int) -> pa.Table:
    names, offsets, sizes = ([place[i] for place in places] for i in range(3))
    return table(
        {"name": names, "file": file, "offset": offsets, "length": sizes, "size": sizes}
        | {"stamp": version, "zipped": False},
        len(places),
    )
