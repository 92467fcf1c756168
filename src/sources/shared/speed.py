"""How fast images last came from a place, remembered beside the cache: for plans alone."""

from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from src.core.files import read_json, write_json
from src.sources.local.cache import Cache, cache_key

# What a request costs, in bytes that come meanwhile: many small reads and few large ones become
# comparable, so that either foretells the other to about a factor of two.
_REQUEST = 2**16
# Fewer say how long the server takes to answer, not how fast it is.
_ENOUGH = 32 * _REQUEST


@dataclass(frozen=True)
class Speed:
    """What reading from a place reached."""

    bytes_per_second: float
    requests_per_second: float

    def seconds(self, size: int, requests: int) -> float:
        """Return how long so many bytes and requests take."""
        reached = self.bytes_per_second + self.requests_per_second * _REQUEST
        return (size + requests * _REQUEST) / reached


def remember_speed(cache: Cache, url: str, size: int, requests: int, seconds: float) -> None:
    """Keep what reading from `url` has taken, for everything on its host; too little says nothing.

    Raises:
        OSError: it cannot be written (a full disk).
    """
    if size + requests * _REQUEST >= _ENOUGH:
        write_json(asdict(Speed(size / seconds, requests / seconds)), _path(cache, url))


def last_speed(cache: Cache, url: str) -> Speed | None:
    """Return how fast images last came from the host of `url`; None where nothing is known."""
    path = _path(cache, url)
    return Speed(**read_json(path)) if path.is_file() else None


def _path(cache: Cache, url: str) -> Path:
    parts = urlsplit(url)
    # No entry of the cache: those never change.
    return cache.root / "speeds" / f"{cache_key(parts.scheme, parts.netloc)}.json"
