"""Tar archives on this machine: their members, and plain copies of compressed ones."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tarfile import TarInfo
from typing import Any

import pyarrow as pa

from src.core.cli import InputError
from src.core.files import replacing
from src.images.shards import read_tar
from src.sources.local.cache import Cache, cache_key
from src.sources.local.paths import LeftOut
from src.sources.origins.members import are_text, link_target, resolved, table
from src.sources.origins.zips import MAX_CONTENT, MAX_RATIO

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
