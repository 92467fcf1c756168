"""Tar archives: their members, from an index beside them or from the archive itself."""

import tarfile
from pathlib import Path

import pyarrow as pa

from src.command import InputError
from src.sources.origins.listing import table

INDEX_SUFFIX = ".idx"


def read_members(path: Path, file: str, version: int) -> pa.Table:
    """Return the members of the tar archive at `path`, which origins call `file`; no folders.

    Raises:
        InputError: it is truncated, corrupt or compressed, or holds a link or a device.
    """
    places: list[tuple[str, int, int]] = []
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


def _sample(words: list[str]) -> list[tuple[str, int, int]]:
    fields = zip(words[1::4], words[2::4], words[3::4], strict=True)
    return [(name, int(offset), int(size)) for offset, size, name in fields]


def _check_end(path: Path, end: int, file: str) -> None:
    # tarfile takes a damaged header in the middle of an archive for its end, and says nothing.
    with path.open("rb") as archive:
        archive.seek(end)
        if archive.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise InputError(f"{file}: damaged tar archive: no header at byte {end}")


def _table(places: list[tuple[str, int, int]], file: str, version: int) -> pa.Table:
    names, offsets, sizes = ([place[i] for place in places] for i in range(3))
    return table(
        {"name": names, "file": file, "offset": offsets, "length": sizes, "size": sizes}
        | {"stamp": version, "zipped": False},
        len(places),
    )
