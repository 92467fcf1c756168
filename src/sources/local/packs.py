"""Many small entries of a cache in few files: each run adds to a file of contents and its index.

A file an entry costs more than fetching it does where a thousand come with one request.
"""

import os
import uuid
import weakref
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.core.cli import InputError
from src.images.shards import ShardReader

# Linux may take ten times as long for the same bytes where a write is larger.
_WRITE = 2**18
_PACK, _INDEX = ".pack", ".index"
_KEY_BYTES = 32
_ROW = np.dtype([("key", f"V{_KEY_BYTES}"), ("offset", "<i8"), ("length", "<i8"), ("crc", "<i8")])


class Packs:
    """Entries that are whole or absent, below one folder; read by threads, written by one.

    Keys are those of a cache. What another process adds meanwhile is not seen.
    """

    def __init__(self, folder: Path) -> None:
        """Keep entries in `folder`, which is created when the first ones are put."""
        self._folder = folder
        self._reader = ShardReader(folder)
        self._entries: dict[bytes, tuple[str, int, int, int]] = {}
        # The newest last: it replaces what was damaged.
        for path in sorted(folder.glob(f"*{_INDEX}"), key=lambda path: path.stat().st_mtime_ns):
            self._load(path)
        # A file of its own: processes that add to one would have to wait for each other.
        self._own = uuid.uuid4().hex
        self._descriptor = cache(self._open)

    def __contains__(self, key: str) -> bool:
        """Return whether there is an entry."""
        return bytes.fromhex(key) in self._entries

    def get(self, key: str) -> bytes | None:
        """Return the bytes that were put under `key`; None if there are none, or no longer."""
        entry = self._entries.get(bytes.fromhex(key))
        if entry is None:
            return None
        pack, offset, length, crc = entry
        try:
            data = self._reader.read(pack, offset, length)
        except InputError:  # somebody has emptied the cache
            return None
        return data if zlib.crc32(data) == crc else None

    def put(self, entries: Mapping[str, bytes]) -> None:
        """Keep these; of those that a kill or a full disk has prevented there is none.

        Raises:
            OSError: they cannot be written; the error names the file.
        """
        if not entries:
            return
        rows = np.zeros(len(entries), _ROW)
        rows["key"] = np.frombuffer(bytes.fromhex("".join(entries)), f"V{_KEY_BYTES}")
        rows["length"] = [len(data) for data in entries.values()]
        rows["crc"] = [zlib.crc32(data) for data in entries.values()]
        begin = self._append(_PACK, b"".join(entries.values()))
        rows["offset"] = begin + np.cumsum(rows["length"]) - rows["length"]
        self._append(_INDEX, rows.tobytes())  # last: what stands there is there
        self._add(self._own + _PACK, rows)

    def _load(self, path: Path) -> None:
        index, pack = path.read_bytes(), path.with_suffix(_PACK)
        rows = np.frombuffer(index, _ROW, len(index) // _ROW.itemsize)
        size = pack.stat().st_size if pack.exists() else -1  # less than it was, after a power cut
        self._add(pack.name, rows[rows["offset"] + rows["length"] <= size])

    def _add(self, pack: str, rows: NDArray[Any]) -> None:
        for key, *entry in rows.tolist():
            self._entries[key] = (pack, *entry)

    def _append(self, suffix: str, data: bytes) -> int:
        """Write `data` at the end of a file of this process; return where that is."""
        path = self._folder / (self._own + suffix)
        descriptor = self._descriptor(path)
        begin = os.lseek(descriptor, 0, os.SEEK_END)
        write(descriptor, data, path)
        return begin

    def _open(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        return descriptor


def write(descriptor: int, data: bytes | memoryview, path: Path) -> None:
    """Write all of `data` where the file `path` stands.

    Raises:
        OSError: it cannot be written (a full disk); the error names the file.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest[:_WRITE]) :]
    except OSError as error:
        error.filename = str(path)  # a failed write does not know it
        raise
