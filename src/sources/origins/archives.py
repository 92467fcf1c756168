"""What a place holds -> one table of members: loose files, and what is in zip and tar archives."""

import logging
import posixpath
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from src.core.cli import InputError
from src.core.hashing import image_key
from src.sources.local.cache import Cache, cache_key
from src.sources.local.paths import HIDDEN_REASON, LeftOut, is_hidden
from src.sources.origins.addresses import Place, archive_kind
from src.sources.origins.members import MEMBERS, WHOLE_FILE, joined, table, usable
from src.sources.origins.range_reader import Origin, read_part
from src.sources.origins.stores import LocalStore, Missing, Stat, Store
from src.sources.origins.tars import plain_copy, read_tar_members
from src.sources.origins.whole_file import NotDownloadedError, readable, whole_file, whole_path
from src.sources.origins.zip_directory import read_zip_members

logger = logging.getLogger(__name__)


def open_place(place: Place, cache: Cache, *, whole: bool) -> Origin:
    """Return the members of a place; `whole`: archives are read from copies on this machine.

    Raises:
        NotDownloadedError: there is no copy yet of one of these, or of a tar.
        InputError: nothing is there, it is damaged or unsafe, or cannot be read.
    """
    left_out = LeftOut()
    reader = _Reader(place.store, cache, left_out, whole=whole)
    version = place.version
    try:
        if place.archive:
            stat = place.store.stat(place.file)
            version = version or stat.version.strip('"')
            members = reader.members(place.file, place.archive, stat)
        else:
            members = _everything(place.store, reader, left_out)
    except Missing as error:
        raise InputError(f"download.origin: {error}") from error
    reader.check_downloaded()
    members = usable(members, place.store.url, left_out)
    if left_out:
        logger.warning("%s: left out: %s", place.url, left_out)
    if not len(members):
        raise InputError(f"{place.store.url}: no files there")
    version = "local" if place.store.is_local else version
    return Origin(place.store, place.url, version, members, reader.on_disk)


def _everything(store: Store | LocalStore, reader: "_Reader", left_out: LeftOut) -> pa.Table:
    loose: dict[str, Stat] = {}
    archives: dict[str, Stat] = {}
    for path, stat in store.list(left_out):
        if not archive_kind(path):
            loose[path] = stat
        elif is_hidden(path):
            left_out.add(HIDDEN_REASON, path)
        else:
            archives[path] = stat
    tables = [_loose(loose)]
    for path in sorted(archives):
        found = reader.members(path, archive_kind(path), archives[path])
        tables.append(_below(posixpath.dirname(path), found))
    return pa.concat_tables(tables).combine_chunks()


def _loose(files: dict[str, Stat]) -> pa.Table:
    names = sorted(files)
    stats = [files[name] for name in names]
    return table(
        {
            "name": names,
            "file": names,
            "offset": 0,
            "length": WHOLE_FILE,
            "size": [stat.size for stat in stats],
            "stamp": [_stamp(stat) for stat in stats],
            "zipped": False,
        },
        len(names),
    )


def _below(folder: str, members: pa.Table) -> pa.Table:
    if not folder:
        return members
    names = pc.binary_join_element_wise(
        pa.scalar(folder, pa.large_string()), members["name"], pa.scalar("/", pa.large_string())
    )
    return members.set_column(0, "name", names)


def _stamp(stat: Stat) -> int:
    return image_key(f"{stat.size} {stat.version}")


class _Reader:
    """Lists the archives of one store, and remembers which copies on this machine it read."""

    def __init__(
        self, store: Store | LocalStore, cache: Cache, left_out: LeftOut, *, whole: bool
    ) -> None:
        self.on_disk: dict[str, Path] = {}
        self._absent: dict[str, Stat] = {}
        self._store = store
        self._cache = cache
        self._left_out = left_out
        self._whole = whole

    def members(self, file: str, kind: str, stat: Stat) -> pa.Table:
        """Return the members of an archive.

        None of an archive that is not downloaded: `check_downloaded` says so of all together.
        """
        where = joined(self._store.url, file)
        if isinstance(self._store, LocalStore):
            path = self._store.folder / file
        elif kind == ".zip" and not self._whole:
            return self._kept(self._store, where, file, stat)
        elif not (path := whole_path(self._store, file, stat, self._cache)).is_file():
            self._absent[file] = stat
            return MEMBERS.empty_table()
        if kind == ".zip":
            self.on_disk[file] = path
            read, size = partial(read_part, path), path.stat().st_size
            return read_zip_members(read, file, size, where, self._left_out)
        self.on_disk[file] = path = plain_copy(path, kind, self._cache)
        return read_tar_members(path, file, _stamp(stat), where, self._left_out)

    def check_downloaded(self) -> None:
        """Raise NotDownloadedError where archives have to be downloaded before they are listed."""
        if not self._absent:
            return
        file, stat = next(iter(self._absent.items()))
        which = f"{joined(self._store.url, file)} ({readable(stat.size)})"
        if more := len(self._absent) - 1:
            total = readable(sum(stat.size for stat in self._absent.values()))
            which += f" and {more} more ({total} together)"
        why, instead = (
            ("#whole in download.origin has an archive", "leave #whole out")
            if self._whole
            else ("a tar has no directory and is", "put the images into a zip, or leave them loose")
        )
        raise NotDownloadedError(
            f"{which}: {why} downloaded as a whole before its images can be listed; run the stage, "
            f"which downloads it, or {instead}",
            self._download,
        )

    def _download(self) -> None:
        assert isinstance(self._store, Store)
        try:
            for file, stat in self._absent.items():
                whole_file(self._store, file, stat, self._cache)
        except Missing as error:
            raise InputError(f"download.origin: {error}") from error

    def _kept(self, store: Store, where: str, file: str, stat: Stat) -> pa.Table:
        """Return the members of a zip archive, from the cache where they were listed before."""
        if not stat.ranges:
            raise InputError(
                f"{where}: the server does not send parts of files (HTTP Range); append #whole to "
                "download.origin to have all of it downloaded"
            )
        key = cache_key("members, names by 0x7075", where, str(stat.size), stat.version)
        if kept := self._cache.get(key):
            return parquet.read_table(pa.BufferReader(kept), schema=MEMBERS)
        read = partial(store.read, file)
        members = read_zip_members(read, file, stat.size, where, self._left_out)
        if stat.version:
            sink = pa.BufferOutputStream()
            parquet.write_table(members, sink, compression="zstd")
            self._cache.put(key, sink.getvalue())
        return members
