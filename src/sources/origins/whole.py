"""A file of an origin, downloaded as a whole into the cache, where parts of it do not do."""

import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from src.sources.cache import Cache, cache_key
from src.sources.origins.parallel import in_order
from src.sources.origins.stores import Missing, Stat, Store

logger = logging.getLogger(__name__)

_PIECE = 16 * 2**20
_IN_FLIGHT = 8


def whole_file(store: Store, file: str, stat: Stat, cache: Cache) -> Path:
    """Return a copy of `file` in the cache; a run that was killed goes on where it stopped.

    From a server that does not send parts, it begins anew.

    Raises:
        Missing: there is no such file, or it changed its size.
        InputError: access is refused, or the server does not answer.
        OSError: another process downloads it, or the disk is full.
    """
    target = cache.path(cache_key("whole", store.url, file, str(stat.size), stat.version))
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("%s: downloaded as a whole", "/".join(filter(None, (store.url, file))))
    part = target.with_suffix(".part")
    with part.open("ab") as output:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not stat.ranges:
            output.truncate(0)
        pieces = (
            _pieces(store, file, output.tell(), stat.size) if stat.ranges else store.stream(file)
        )
        with tqdm(
            total=stat.size, initial=output.tell(), unit="B", unit_scale=True, disable=None
        ) as bar:
            for piece in pieces:
                output.write(piece)
                bar.update(len(piece))
        if output.tell() != stat.size:
            part.unlink()
            raise Missing(f"{part}: {output.tell()} bytes instead of {stat.size}")
        part.replace(target)
    return target


def _pieces(store: Store, file: str, begin: int, size: int) -> Iterator[bytes]:
    ranges = [(start, min(start + _PIECE, size)) for start in range(begin, size, _PIECE)]
    return in_order(lambda span: store.read(file, *span), ranges, _IN_FLIGHT)
