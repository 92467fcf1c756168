"""An origin: the members of a place, listed once, read by ranges."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute as pc

from src.core.arrays import IntArray
from src.core.cli import InputError
from src.sources.local.cache import cache_key
from src.sources.local.prefetch import in_order
from src.sources.origins.in_flight import IN_FLIGHT, most_in_flight, runs
from src.sources.origins.members import WHOLE_FILE, Member
from src.sources.origins.stores import LocalStore, Missing, Store
from src.sources.origins.zips import content as zip_content

Rows = NDArray[np.int64]
Data = bytes | memoryview

_TOGETHER = 32  # members that a thread reads before it says so


class _Run(NamedTuple):
    """Members that lie near each other, in bytes `start` to before `end` of `file`."""

    file: str
    start: int
    end: int
    members: list[tuple[int, Member]]  # with their rows


class Origin:
    """Members that can be read; a row is the number of one, and stays the same.

    May be shared by threads. `url` is for the manifest: pinned where it can be, without secrets, no
    path of this machine.
    """

    def __init__(
        self,
        store: Store | LocalStore,
        url: str,
        version: str,
        members: pa.Table,
        on_disk: Mapping[str, Path],
    ) -> None:
        """Read a table of MEMBERS from `store`, or from the copies `on_disk` of some files."""
        self.url = url
        self.version = version
        self._store = store
        self._members = members
        self._on_disk = on_disk
        files = pc.unique(members["file"]).to_pylist() if on_disk else [""]
        self._is_local = store.is_local or on_disk.keys() >= set(files)

    def names(self) -> pa.ChunkedArray:
        """Return the name of every member."""
        return self._members["name"]

    def find(self, names: pa.Array) -> Rows:
        """Return the row of each of these members, -1 for those that are not there."""
        found = pc.index_in(names.cast(pa.large_string()), value_set=self._members["name"])
        rows = np.asarray(pc.fill_null(found, -1)).astype(np.int64)
        del found
        pa.default_memory_pool().release_unused()  # the hash table is larger than the names
        return rows

    def archives(self, rows: Rows) -> list[str]:
        """Return which archive holds each of these members, "" for a file of its own."""
        return ["" if member.file == member.name else member.file for member in self._take(rows)]

    def sizes(self, rows: Rows) -> IntArray:
        """Return the bytes of content of each of these members."""
        return np.asarray(self._members["size"].take(pa.array(rows)))

    def keys(self, rows: Rows) -> list[str]:
        """Return under which key a cache keeps each of these members."""
        # Where from, the archive and the name; not the archive's version: a member that is the
        # same in the next one is not fetched again.
        where = self._store.url
        return [cache_key(where, m.file, m.name, str(m.stamp)) for m in self._take(rows)]

    def is_local(self) -> bool:
        """Return whether members are read from this machine, so that a cache gains nothing."""
        return self._is_local

    def has_read(self) -> tuple[int, int]:
        """Return how many bytes this run has read so far, in how many parts."""
        return self._store.bytes_read, self._store.reads

    def cost(self, rows: Rows) -> tuple[int, int]:
        """Return how many bytes, and at most how many requests, reading these members takes."""
        plan = self._plan(rows)
        return sum(run.end - run.start for run in plan), len(plan)

    def unsure(self, rows: Rows) -> Rows:
        """Return those of these members, on this machine, that may turn out not to be whole.

        A zip's CRC-32 shows it; a loose file may be gone, or a link to nowhere.
        """
        members = self._take(rows)
        unsure = [
            member.zipped or (member.length == WHOLE_FILE and not self._path(member).is_file())
            for member in members
        ]
        return rows[np.array(unsure, dtype=np.bool_)]

    def read(self, rows: Rows) -> Iterator[list[tuple[int, bytes | Missing]]]:
        """Yield (row, content or why there is none) of these members, a request's at a time.

        Members that lie near each other come with one request; many requests are in flight, and a
        zip's CRC-32 is checked.

        Raises:
            InputError: the origin does not answer, refuses access, or a member is a zip bomb.
        """
        plan = self._plan(rows)
        largest = max((run.end - run.start for run in plan), default=0)
        return in_order(self._read_run, plan, most_in_flight(largest))

    def contents(self, rows: Rows) -> Iterator[bytes]:
        """Yield the content of each of these members, in their order, without joining requests.

        Raises:
            InputError: one cannot be read; the message says why.
        """
        parts = np.split(rows, range(_TOGETHER, len(rows), _TOGETHER))
        for found in in_order(lambda part: [*map(self._read, self._take(part))], parts, IN_FLIGHT):
            yield from found

    def _read(self, member: Member) -> bytes:
        try:
            content = self._content(member, self._bytes(member, member.offset, _end(member)))
        except Missing as reason:
            content = reason
        if isinstance(content, Missing):
            raise InputError(f"{self.url}: {member.name}: {content}")
        return content

    def _take(self, rows: Rows) -> list[Member]:
        columns = self._members.take(pa.array(rows)).columns
        return [Member(*row) for row in zip(*(c.to_pylist() for c in columns), strict=True)]

    def _plan(self, rows: Rows) -> list[_Run]:
        members = self._take(rows)
        files = pa.array([member.file for member in members], pa.string()).dictionary_encode()
        begins = np.array([member.offset for member in members], dtype=np.int64)
        ends = np.array([_end(member) for member in members], dtype=np.int64)
        plan = []
        for run in runs(np.asarray(files.indices), begins, ends):
            chosen = [(int(rows[i]), members[i]) for i in run]
            start, end = int(begins[run].min()), int(ends[run].max())
            plan.append(_Run(chosen[0][1].file, start, end, chosen))
        return plan

    def _read_run(self, run: _Run) -> list[tuple[int, bytes | Missing]]:
        try:
            data = self._bytes(run.members[0][1], run.start, run.end)
        except Missing as reason:
            return [(row, reason) for row, _ in run.members]
        return [
            (row, self._content(member, data[member.offset - run.start : _end(member) - run.start]))
            for row, member in run.members
        ]

    def _content(self, member: Member, record: Data) -> bytes | Missing:
        try:
            return _unpack(member, record)
        except Missing:
            # The network may have damaged it: what is wrong twice is wrong where it comes from.
            try:
                return _unpack(member, self._bytes(member, member.offset, _end(member)))
            except Missing as reason:
                return reason

    def _bytes(self, member: Member, start: int, end: int) -> Data:
        is_whole = member.length == WHOLE_FILE
        if isinstance(self._store, Store) and member.file not in self._on_disk:
            return (
                self._store.read_all(member.file)
                if is_whole
                else self._store.read(member.file, start, end)
            )
        try:
            path = self._path(member)
            return path.read_bytes() if is_whole else read_part(path, start, end)
        except FileNotFoundError as error:
            raise Missing("not there any more") from error

    def _path(self, member: Member) -> Path:
        """Return where the file of a member lies on this machine."""
        return self._on_disk.get(member.file) or Path(self._store.url, member.file)


def read_part(path: Path, start: int, end: int) -> bytes:
    """Return the bytes from `start` to before `end` of a file on this machine."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _end(member: Member) -> int:
    return member.offset + (member.size if member.length == WHOLE_FILE else member.length)


def _unpack(member: Member, record: Data) -> bytes:
    if member.zipped:
        return zip_content(record, member.name, member.size, member.stamp)
    if len(record) != member.size:
        raise Missing(f"{len(record)} bytes instead of the {member.size} that were listed")
    return bytes(record)
