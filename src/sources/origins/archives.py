"""What a place holds -> one table of members: loose files, and what is in zip and tar archives."""

import posixpath
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet

from src.core.cli import InputError
from src.core.hashing import image_key
from src.sources.origins import tars, zips
from src.sources.origins.cache import Cache, cache_key
from src.sources.origins.members import MEMBERS, WHOLE_FILE, check_names, table
from src.sources.origins.range_reader import ListedOrigin, read_part
from src.sources.origins.stores import Missing, Stat, Store
from src.sources.origins.urls import Place, archive_kind
from src.sources.origins.whole_file import NotDownloadedError, readable, whole_file, whole_path


def open_place(place: Place, cache: Cache, *, whole: bool) -> ListedOrigin:
    """Return the members of a place; `whole`: archives are read from copies on this machine.

    Raises:
        NotDownloadedError: there is no copy yet of one of these, or of a tar without an index.
        InputError: nothing is there, it is damaged or unsafe, or cannot be read.
    """
    reader = _Reader(place.store, cache, whole=whole)
    version = place.version
    try:
        if place.archive:
            stat = place.store.stat(place.file)
            version = version or stat.version.strip('"')
            members = reader.members(place.file, place.archive, stat, reader.has_index(place.file))
        else:
            members = _everything(place.store, reader)
    except Missing as error:
        raise InputError(f"download.origin: {error}") from error
    reader.check_downloaded()
    check_names(members, place.store.url)
    version = "local" if place.store.is_local else version
    return ListedOrigin(place.store, place.url, version, members, reader.on_disk)


def _everything(store: Store, reader: "_Reader") -> pa.Table:
    loose: dict[str, Stat] = {}
    archives: dict[str, Stat] = {}
    for path, stat in store.list():
        (archives if archive_kind(path) else loose)[path] = stat
    if not loose and not archives:
        raise InputError(f"{store.url}: no files there")
    tables = [_loose(loose)]
    for path in sorted(archives):
        indexed = path + tars.INDEX_SUFFIX in loose
        found = reader.members(path, archive_kind(path), archives[path], indexed)
        tables.append(_below(posixpath.dirname(path), found))
    return pa.concat_tables(tables).combine_chunks()


def _loose(files: dict[str, Stat]) -> pa.Table:
    names = pa.array(sorted(files), pa.large_string())
    stats = [files[name] for name in names.to_pylist()]
    sizes = [stat.size for stat in stats]
    return table(
        {
            "name": names,
            "file": names.cast(pa.string()),
            "offset": 0,
            "length": WHOLE_FILE,
            "size": sizes,
        }
        | {"stamp": [_stamp(stat) for stat in stats], "zipped": False},
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


def _check_ranges(where: str, stat: Stat) -> None:
    if not stat.ranges:
        raise InputError(
            f"{where}: the server does not send parts of files (HTTP Range); append #whole to "
            "download.origin to have all of it downloaded"
        )


class _Reader:
    """Lists the archives of one store, and remembers which copies on this machine it read."""

    def __init__(self, store: Store, cache: Cache, *, whole: bool) -> None:
        self.on_disk: dict[str, Path] = {}
        self._absent: dict[str, Stat] = {}
        self._store = store
        self._cache = cache
        self._whole = whole

    def members(self, file: str, kind: str, stat: Stat, indexed: bool) -> pa.Table:
        """Return the members of an archive; `indexed`: a tar's index lies beside it.

        None of an archive that is not downloaded: `check_downloaded` says so of all together.
        """
        where = self._store.where(file)
        if self._store.is_local:
            path = Path(self._store.url, file)
        elif kind == ".zip" and not self._whole:
            return self._kept(where, file, stat)
        elif indexed and not self._whole:
            _check_ranges(where, stat)
            index = self._store.read_all(file + tars.INDEX_SUFFIX).decode()
            return tars.parse_index(index, file, _stamp(stat))
        elif not (path := whole_path(self._store, file, stat, self._cache)).is_file():
            self._absent[file] = stat
            return MEMBERS.empty_table()
        self.on_disk[file] = path
        if kind == ".zip":
            read = partial(read_part, path)
            return zips.read_members(read, file, path.stat().st_size, where)
        return tars.read_members(path, file, _stamp(stat))

    def check_downloaded(self) -> None:
        """Raise NotDownloadedError where archives have to be downloaded before they are listed."""
        if not self._absent:
            return
        file, stat = next(iter(self._absent.items()))
        which = f"{self._store.where(file)} ({readable(stat.size)})"
        if more := len(self._absent) - 1:
            total = readable(sum(stat.size for stat in self._absent.values()))
            which += f" and {more} more ({total} together)"
        if self._whole:
            why = "#whole in download.origin has an archive"
            instead = "leave #whole out"
        else:
            why = f"a tar without an index beside it ({file}{tars.INDEX_SUFFIX}) has to be"
            instead = "make the index with wds2idx"
        message = (
            f"{which}: {why} downloaded as a whole before its images can be listed; run the stage, "
            f"which downloads it, or {instead}"
        )
        raise NotDownloadedError(message, self._download)

    def _download(self) -> None:
        try:
            for file, stat in self._absent.items():
                whole_file(self._store, file, stat, self._cache)
        except Missing as error:
            raise InputError(f"download.origin: {error}") from error

    def has_index(self, file: str) -> bool:
        """Return whether there is an index beside a tar archive."""
        if self._store.is_local or archive_kind(file) != ".tar":
            return False
        try:
            self._store.stat(file + tars.INDEX_SUFFIX)
        except Missing:
            return False
        return True

    def _kept(self, where: str, file: str, stat: Stat) -> pa.Table:
        """Return the members of a zip archive, from the cache where they were listed before."""
        _check_ranges(where, stat)
        key = cache_key("members", where, str(stat.size), stat.version)
        if kept := self._cache.get(key):
            return parquet.read_table(pa.BufferReader(kept), schema=MEMBERS)
        members = zips.read_members(partial(self._store.read, file), file, stat.size, where)
        if stat.version:
            sink = pa.BufferOutputStream()
            parquet.write_table(members, sink, compression="zstd")
            self._cache.put(key, sink.getvalue())
        return members
