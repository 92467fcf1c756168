"""Encoded images <-> uncompressed tar archives: write, index, random-access read.

The only module that knows how images are stored. Training depends on it, and so on nothing that
only writes or checks a data set: that is `raw`.
"""

import io
import math
import os
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from src.core.cli import InputError
from src.core.files import replacing

# Readers keep that many shards open; the usual limit of a process is 1024 files.
_OPEN_SHARDS = 256
_END_PIECE = 2**20


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> list[tuple[int, int]]:
    """Write (name, content) pairs as a tar archive; return the (offset, length) of each, in bytes.

    The bytes of the archive depend on nothing but `members`: no time, no owner, no order but
    theirs.
    """
    places = []
    with (
        replacing(path) as temporary,
        tarfile.open(temporary, "x", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            places.append((archive.offset + tarfile.BLOCKSIZE, len(content)))
            archive.addfile(header, io.BytesIO(content))
    return places


def stored_size(length: int) -> int:
    """Return the bytes that a member of `length` bytes takes in an archive, with its header."""
    return tarfile.BLOCKSIZE * (1 + math.ceil(length / tarfile.BLOCKSIZE))


def read_tar(path: Path, name: str = "") -> list[tarfile.TarInfo]:
    """Return the members of the tar archive at `path`, in its order; messages call it `name`.

    Raises:
        InputError: there is no such archive, or it is truncated or corrupt.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = archive.getmembers()
            end = archive.offset
    except FileNotFoundError as error:
        raise InputError(f"{name or path}: no such tar archive") from error
    except tarfile.TarError as error:
        raise InputError(f"{name or path}: truncated or corrupt tar archive: {error}") from error
    check_end(path, end, name)
    return members


def check_end(path: Path, end: int, name: str = "") -> None:
    """Raise InputError unless nothing but the mark of its end follows byte `end` of an archive.

    tarfile takes a damaged header in the middle for the end, and says nothing.
    """
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read(tarfile.BLOCKSIZE)
        is_end = len(rest) == tarfile.BLOCKSIZE
        while is_end and rest:
            is_end = not rest.strip(b"\0")
            rest = file.read(_END_PIECE)
    if not is_end:
        raise InputError(f"{name or path}: truncated or corrupt tar archive: no header at {end}")


class ShardReader:
    """Random access to the images in a folder of shards.

    May be shared by threads, inherited by a fork and pickled to other processes.
    """

    def __init__(self, root: Path) -> None:
        """Read from the shards in the folder `root`; nothing is opened yet."""
        self._root = root
        self._open = lru_cache(_OPEN_SHARDS)(lambda shard: _OpenShard(root / shard))

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path]]:
        """Pickle the folder alone: open files stay in their process."""
        return ShardReader, (self._root,)

    def read(self, shard: str, offset: int, length: int) -> bytes:
        """Return `length` bytes that begin `offset` bytes into `shard`.

        Raises:
            InputError: there is no such shard, or it ends before.
        """
        file = self._open(shard)
        data = os.pread(file.descriptor, length, offset) if min(offset, length) >= 0 else b""
        if len(data) != length:
            raise InputError(
                f"{self._root / shard}: cannot read {length} bytes at {offset} of "
                f"{os.fstat(file.descriptor).st_size}; the shard is not the one that was indexed"
            )
        return data


class _OpenShard:
    # Closed by the last reference, so that a thread that reads from it when the cache of open
    # shards drops it can finish.
    def __init__(self, path: Path) -> None:
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such shard; run the download stage again") from error

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)
