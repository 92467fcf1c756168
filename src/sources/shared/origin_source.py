"""What data sets share whose images are read from an origin: planning, fetching, keeping."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from tqdm import tqdm

from src.core.cli import InputError
from src.sources.local.cache import Cache, default_cache_path
from src.sources.local.packs import Packs
from src.sources.local.prefetch import in_order
from src.sources.origins import Missing, Origin, Rows, open_origin
from src.sources.shared.source import ABSENT, Plan, Provenance
from src.sources.shared.speed import last_speed, remember_speed

logger = logging.getLogger(__name__)

NOT_THERE = -1
# Entries that are written or read at a time: all that a kill loses beside what is on its way.
_TOGETHER = 32
_READ_AHEAD = 32  # such parts

Found = tuple[int, bytes | Missing]


class OriginSource:
    """A data set in an origin; `member` in its catalogue is the image's row there."""

    def __init__(
        self, origin: Origin, images: pd.DataFrame, licences: Mapping[str, str], cache: Cache
    ) -> None:
        """Serve `images`: the columns of `Source.catalogue`, `member`, `given_split`, others."""
        self.provenance = Provenance(origin.url, origin.version, licences)
        self._origin = origin
        self._images = images.assign(there=images["member"] != NOT_THERE)
        self._cache = cache

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image that the data set lists."""
        return self._images

    def plan(self, images: pd.DataFrame) -> Plan:
        """Return what fetching these rows, which are there, would take; nothing is fetched."""
        rows = images["member"].to_numpy()
        kept, remote = np.zeros(len(rows), dtype=bool), not self._origin.is_local()
        if remote:
            kept[:] = [key in self._cache.packs for key in self._origin.keys(rows)]
        size = self._origin.sizes(rows)
        transfer, requests = self._origin.cost(rows[~kept])
        speed = last_speed(self._cache, self._origin.url)
        seconds = speed.seconds(transfer, requests) if speed and transfer else 0.0
        return Plan(kept, np.where(kept, 0, size), transfer, requests, seconds, remote)

    def prepare(self, images: pd.DataFrame) -> dict[str, str]:
        """Fetch these rows of the catalogue into the cache; return why some are missing, by id.

        What the cache holds is not fetched again, also after a run that was killed.

        Raises:
            InputError: the origin does not answer or refuses access, or an image is a zip bomb.
        """
        there = images[images["there"]]
        absent = images.loc[~images["there"], "image_id"]
        ids = dict(zip(there["member"].tolist(), there["image_id"], strict=True))
        missing = self._timed_fetch(there["member"].to_numpy())
        return dict.fromkeys(absent, ABSENT) | {
            ids[row]: str(reason) for row, reason in missing.items()
        }

    def _timed_fetch(self, rows: Rows) -> dict[int, Missing]:
        before, began = self._origin.has_read(), time.monotonic()
        missing = fetch_into(self._cache, self._origin, rows)
        seconds = time.monotonic() - began
        if not self._origin.is_local():
            size, requests = np.subtract(self._origin.has_read(), before).tolist()
            remember_speed(self._cache, self._origin.url, size, requests, seconds)
        return missing

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, encoded image)` for each of these rows of the catalogue, in order.

        Raises:
            InputError: an image is missing; `prepare` says which before.
        """
        if not images["there"].all():
            raise InputError(f"{images.loc[~images['there'], 'image_id'].iloc[0]}: {ABSENT}")
        contents = load(self._cache, self._origin, images["member"].to_numpy())
        yield from zip(images["image_id"], contents, strict=True)


def open_data_set(url: str, default: str = "") -> tuple[Origin, Cache]:
    """Return the origin at `url`, where it is empty at `default`, and the user's cache for it."""
    cache = Cache(default_cache_path())
    return open_origin(url or default, cache), cache


def fetch_into(cache: Cache, origin: Origin, rows: Rows) -> dict[int, Missing]:
    """Fetch members into the cache, or check them where they are local; return what is missing."""
    if origin.is_local():
        unsure = origin.unsure(rows)
        return _missing(origin.read(unsure), len(unsure))
    keys = dict(zip(rows.tolist(), origin.keys(rows), strict=True))
    wanted = [row for row, key in keys.items() if key not in cache.packs]
    found = origin.read(np.array(wanted, dtype=np.int64))
    return _missing(_kept(found, keys, cache.packs), len(wanted))


def _kept(
    found: Iterable[list[Found]], keys: Mapping[int, str], packs: Packs
) -> Iterator[list[Found]]:
    """Yield what is found, and put it into the cache, some entries at a time."""
    waiting: dict[str, bytes] = {}
    try:
        for some in found:
            yield some
            waiting.update({keys[row]: c for row, c in some if not isinstance(c, Missing)})
            if len(waiting) >= _TOGETHER:
                packs.put(waiting)
                waiting = {}
    finally:
        packs.put(waiting)


def _missing(found: Iterable[list[Found]], total: int) -> dict[int, Missing]:
    missing = {}
    with tqdm(
        desc="fetch", total=total, unit=" files", disable=None if total else True
    ) as progress:
        for some in found:
            missing.update({row: content for row, content in some if isinstance(content, Missing)})
            progress.update(len(some))
    return missing


def load(cache: Cache, origin: Origin, rows: Rows) -> Iterator[bytes]:
    """Yield the content of these members, in order: from the cache, else from the origin.

    Raises:
        InputError: a member is missing.
    """
    if origin.is_local():
        yield from origin.contents(rows)
        return
    fetch_into(cache, origin, rows)
    packs, keys = cache.packs, origin.keys(rows)
    parts = [slice(begin, begin + _TOGETHER) for begin in range(0, len(keys), _TOGETHER)]
    kept = in_order(lambda part: [packs.get(key) for key in keys[part]], parts, _READ_AHEAD)
    for part, contents in zip(parts, kept, strict=True):
        for row, content in zip(rows[part], contents, strict=True):
            if content is None:  # it is missing, or somebody has emptied the cache
                (content,) = origin.contents(row[np.newaxis])
            yield content


def match_names(origin: Origin, pattern: str, expected: str) -> pd.DataFrame:
    """Return the named groups of `pattern` in the names that it matches, and their `member`.

    Raises:
        InputError: no name matches; it says what was expected.
    """
    names = origin.names()
    found = pc.extract_regex(names, pattern)
    rows = np.flatnonzero(np.asarray(pc.is_valid(found)))
    if not len(rows):
        raise InputError(f"{origin.url}: not laid out as expected: {expected}")
    groups = pa.chunked_array(found.take(pa.array(rows))).combine_chunks().flatten()
    fields = [field.name for field in found.type]
    columns = {name: group.to_pandas() for name, group in zip(fields, groups, strict=True)}
    return pd.DataFrame(columns).assign(member=rows)


def without_copies(images: pd.DataFrame, path: list[str], origin: Origin) -> pd.DataFrame:
    """Return the images below the shallowest `root`, those with the same `path` once.

    Downloads hold their tree twice, the second time inside itself.

    Raises:
        InputError: images with the same path differ in size, so that they are no copies.
    """
    depth = images["root"].str.count("/")
    top = images[depth == depth.min()]
    once = top[~top.duplicated(path)]
    same = top[path].merge(once[[*path, "member"]], on=path)["member"].to_numpy()
    different = origin.sizes(top["member"].to_numpy()) != origin.sizes(same)
    if different.any():
        first = top[different].iloc[0]
        raise InputError(
            f"{origin.url}: {'/'.join(first[path])} is in {first['root'] or '.'} and elsewhere, "
            "with another size; remove one of them, or set download.origin to the folder to use"
        )
    if left_out := len(images) - len(once):
        logger.warning("%s: a second copy of %d images left out", origin.url, left_out)
    return once.reset_index(drop=True)
