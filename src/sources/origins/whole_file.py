"""A file of an origin, downloaded as a whole into the cache, where parts of it do not do."""

import fcntl
import logging
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from src.core.cli import InputError
from src.sources.local.cache import Cache, cache_key
from src.sources.local.packs import write
from src.sources.local.prefetch import in_order
from src.sources.origins.members import joined
from src.sources.origins.stores import Missing, Stat, Store

logger = logging.getLogger(__name__)

_PIECE = 8 * 2**20
_IN_FLIGHT = 4

Opened = TypeVar("Opened")


class NotDownloadedError(InputError):
    """What archives hold can be listed once they are downloaded, which `download` does."""

    def __init__(self, message: str, download: Callable[[], None]) -> None:
        """Say which archives, and how large they are."""
        super().__init__(message)
        self.download = download


def with_archives(open_it: Callable[[], Opened]) -> Opened:
    """Return what `open_it` does, once the archives are downloaded that it needs for that.

    Raises:
        InputError: as for `whole_file`, or by `open_it`.
        OSError: the disk is full.
    """
    try:
        return open_it()
    except NotDownloadedError as archives:
        archives.download()
    return open_it()


def whole_path(store: Store, file: str, stat: Stat, cache: Cache) -> Path:
    """Return where the cache has the copy of `file` if there is one."""
    return cache.path(cache_key("whole", store.url, file, str(stat.size), stat.version))


def whole_file(store: Store, file: str, stat: Stat, cache: Cache) -> Path:
    """Return a copy of `file` in the cache; a run that was killed resumes where it stopped.

    From a server that does not send parts, it begins anew.

    Raises:
        Missing: there is no such file, or it changed its size.
        InputError: access is refused, the server does not answer, or another process downloads it.
        OSError: the disk is full.
    """
    target = whole_path(store, file, stat, cache)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s: downloaded as a whole, %s", joined(store.url, file), readable(stat.size))
    part = target.with_suffix(".part")
    # Not buffered: what a full disk refuses must not be written when the file is closed.
    with part.open("ab", buffering=0) as output:
        _lock(output, part)
        if not stat.ranges:
            output.truncate(0)
        pieces = (
            _pieces(store, file, output.tell(), stat.size) if stat.ranges else store.stream(file)
        )
        with tqdm(
            desc="download",
            total=stat.size,
            initial=output.tell(),
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar:
            for piece in pieces:
                write(output.fileno(), piece, part)
                bar.update(len(piece))
        if output.tell() != stat.size:
            part.unlink()
            raise Missing(f"{part}: {output.tell()} bytes instead of {stat.size}")
        part.replace(target)
    return target


def readable(size: int) -> str:
    """Return a number of bytes as messages give it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _lock(output: FileIO, path: Path) -> None:
    try:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{path}: another process downloads it; wait for its end") from error


def _pieces(store: Store, file: str, begin: int, size: int) -> Iterator[memoryview]:
    ranges = [(start, min(start + _PIECE, size)) for start in range(begin, size, _PIECE)]
    return in_order(lambda span: store.read(file, *span), ranges, _IN_FLIGHT)
