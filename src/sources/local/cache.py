"""Bytes that were costly to fetch or to make, kept by key outside of the pipeline's outputs."""

import hashlib
import os
from functools import cached_property
from pathlib import Path

import platformdirs

from src.core.files import replacing
from src.sources.local.packs import Packs

CACHE_VARIABLE = "REAL_OR_GENERATED_CACHE"


def default_cache_path() -> Path:
    """Return the folder named by `REAL_OR_GENERATED_CACHE`, else the user's own cache folder."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else platformdirs.user_cache_path("real-or-generated")


def cache_key(*parts: str) -> str:
    """Return one key, 64 hexadecimal digits, for all that an entry's bytes depend on."""
    # Every part with its length: ("ab", "c") and ("a", "bc") are different things.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of entries that are whole or absent, shared by runs, threads and processes.

    An entry never changes: a key must name everything that its bytes depend on (`cache_key`).
    """

    def __init__(self, root: Path) -> None:
        """Keep entries below `root`, which is created when the first one is put."""
        self.root = root

    def get(self, key: str) -> bytes | None:
        """Return the bytes that were put under `key`, or None if there are none."""
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`; a process killed in the middle leaves no entry."""
        with replacing(self.path(key)) as temporary:
            temporary.write_bytes(data)

    @cached_property
    def packs(self) -> Packs:
        """Return the part of the cache that is made for many small entries."""
        return Packs(self.root / "packs")

    def path(self, key: str) -> Path:
        """Return where the entry of `key` lies if there is one."""
        # Two levels: some file systems are slow with 100,000 names in one folder.
        return self.root / key[:2] / key
