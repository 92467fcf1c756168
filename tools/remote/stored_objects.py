"""dvc.lock -> the files and stored objects that it names, with their hashes."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import md5
from typing import Any, TypeAlias

from dvc.output import Output
from dvc.repo import Repo
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from src.core.cli import InputError
from tools.remote.s3_errors import REMOTE_ERRORS

Progress: TypeAlias = Callable[[int], object]
# Large enough that the threads seldom wait for the interpreter, small enough for many threads.
CHUNK = 4 << 20
LOOKUPS = 16
WORKSPACE, CACHE = "workspace", "cache"
NOTHING = ""  # the hash of what should not be there


@dataclass(frozen=True)
class Copy:
    """One place where bytes should have the hash `oid`."""

    place: str  # WORKSPACE, CACHE or "remote <name>"
    name: str  # the file of the workspace that they are, or belong to
    oid: str  # md5; of a directory's listing, with the suffix ".dir"
    path: str
    fs: Any  # dvc_objects.fs.FileSystem of `path`
    output: Output

    def __str__(self) -> str:
        """Return where to look."""
        return self.name if self.place == WORKSPACE else f"{self.name} ({self.place} {self.path})"

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory of the workspace, hashed as a whole."""
        return self.place == WORKSPACE and self.oid.endswith(".dir")

    @property
    def is_remote(self) -> bool:
        """Return whether a remote keeps it."""
        return self.place not in (WORKSPACE, CACHE)


def default_remote(repo: Repo) -> str:
    """Return the name of the default remote.

    Raises:
        InputError: there is none.
    """
    name = repo.config["core"].get("remote")
    if name is None:
        raise InputError("there is no remote yet: make remote URL=s3://bucket/path")
    return str(name)


def remotes_in_use(repo: Repo, default: str) -> list[str]:
    """Return the names of `default` and of the remotes that dvc.yaml gives to single outputs."""
    return list(dict.fromkeys([default, *(out.remote for out in outputs(repo) if out.remote)]))


def outputs(repo: Repo) -> list[Output]:
    """Return the outputs that dvc.lock (or a .dvc file) has a hash for, in order of their path.

    What neither Git nor the cache keeps (the runs of a study) is left out where it is not there.

    Raises:
        InputError: an output's hash is not an md5.
    """
    found = sorted((out for out in repo.index.outs if out.hash_info and _is_kept(out)), key=str)
    for out in found:
        if out.hash_name != "md5":
            raise InputError(f"{out}: its hash is {out.hash_name}, not md5; rebuild it with DVC 3")
    return found


def check_locked(repo: Repo) -> None:
    """Check that dvc.lock has hashes for the pipeline, not for studies alone.

    Raises:
        InputError: no output of dvc.yaml has one.
    """
    pipeline = repo.fs.join(repo.root_dir, "dvc.yaml")
    if not any(out.stage.path == pipeline for out in outputs(repo)):
        raise InputError(
            "no stage of dvc.yaml is locked: run dvc repro, or restore dvc.lock from Git"
        )


def _is_kept(out: Output) -> bool:
    return bool(out.use_cache or out.exists or not out.repo.scm.is_ignored(out.fs_path))


class Stores:
    """Where a repository keeps its objects: the cache and, on request, the remotes."""

    def __init__(self, repo: Repo, remote: str | None) -> None:
        """Take `remote` as the default remote's name; None leaves all remotes out."""
        self._repo = repo
        self._remote = remote
        # One connection for each: opening one costs more than a request.
        self._opened: dict[str, HashFileDB] = {}

    def of(self, out: Output) -> list[tuple[str, HashFileDB]]:
        """Return name and store of the places that keep `out`; dvc.yaml may name its remote."""
        if not out.use_cache:
            # What Git keeps (metrics) is in the cache for `dvc repro` to bring back earlier runs.
            return [(CACHE, out.cache)] if out.cache.exists(out.hash_info.value) else []
        places: list[tuple[str, HashFileDB]] = [(CACHE, out.cache)]
        if self._remote is not None:
            name = out.remote or self._remote
            if name not in self._opened:
                self._opened[name] = self._repo.cloud.get_remote_odb(name)
            places.append((f"remote {name}", self._opened[name]))
        return places


def copies(repo: Repo, remote: str | None) -> Iterator[Copy]:
    """Yield every copy of every file in use, and files that stand in a directory for no reason.

    A directory whose listing is nowhere to be read is one copy, hashed as a whole.
    """
    stores = Stores(repo, remote)
    for out in outputs(repo):
        places = stores.of(out)
        if out.is_dir_checksum:
            yield from _in_stores(out, str(out), out.hash_info.value, places)
            files = listing(out, places)
            if files is None:
                yield Copy(WORKSPACE, str(out), out.hash_info.value, out.fs_path, out.fs, out)
                continue
            for relative, oid in files.items():
                name, path = f"{out}/{relative}", out.fs.join(out.fs_path, relative)
                yield Copy(WORKSPACE, name, oid, path, out.fs, out)
                yield from _in_stores(out, name, oid, places)
            for relative in sorted(set(_files(out)) - set(files)):
                path = out.fs.join(out.fs_path, relative)
                yield Copy(WORKSPACE, f"{out}/{relative}", NOTHING, path, out.fs, out)
        else:
            oid = out.hash_info.value
            yield Copy(WORKSPACE, str(out), oid, out.fs_path, out.fs, out)
            yield from _in_stores(out, str(out), oid, places)


@dataclass(frozen=True)
class Inventory:
    """What a remote has of `wanted`, by names, sizes and the checksums that it remembers."""

    wanted: Sequence[Copy]
    missing: list[Copy]
    lost: list[Copy]  # those of `missing` that the cache does not have either
    resized: list[Copy]  # of another size than in the cache
    doubtful: list[Copy]  # with another checksum: damaged, or encrypted by the server

    @classmethod
    def take(cls, wanted: Sequence[Copy], cached: Mapping[str, int]) -> "Inventory":
        """Ask for each of `wanted`; `cached` has the sizes of `cached_sizes`."""
        with ThreadPoolExecutor(LOOKUPS) as pool:
            found = list(zip(wanted, pool.map(_info, wanted), strict=True))
        missing = [copy for copy, info in found if info is None]
        present = [(copy, info) for copy, info in found if info is not None]
        return cls(
            wanted,
            missing,
            [copy for copy in missing if copy.oid not in cached],
            [copy for copy, info in present if info["size"] != cached.get(copy.oid, info["size"])],
            [copy for copy, info in present if _has_other_checksum(copy, info)],
        )


def cached_sizes(wanted: Iterable[Copy]) -> dict[str, int]:
    """Return the bytes of each object of the cache that is there, by its hash."""
    cached = {copy.oid: copy for copy in wanted if copy.place == CACHE}
    return {oid: info["size"] for oid, copy in cached.items() if (info := _info(copy))}


def _info(copy: Copy) -> dict[str, Any] | None:
    try:
        return dict(copy.fs.info(copy.path))
    except FileNotFoundError:
        return None


def _has_other_checksum(copy: Copy, info: Mapping[str, Any]) -> bool:
    # Of an upload in parts the server remembers no md5.
    etag = str(info.get("ETag", "")).strip('"')
    return len(etag) == 32 and etag != copy.oid.removesuffix(".dir")


def listing(out: Output, places: Iterable[tuple[str, HashFileDB]]) -> dict[str, str] | None:
    """Return the hash of each file of a directory by its relative path, in order of the paths.

    The listing is taken from the first of `places` where its bytes are right; None if nowhere.
    """
    for _, store in places:
        try:
            data: bytes = store.fs.cat_file(store.oid_to_path(out.hash_info.value))
        except REMOTE_ERRORS:
            continue  # reported where the copies themselves are checked
        if md5(data, usedforsecurity=False).hexdigest() + ".dir" == out.hash_info.value:
            tree = Tree.from_list(json.loads(data), hash_name="md5")
            return dict(sorted(("/".join(key), info.value) for key, _, info in tree))
    return None


def hash_of(copy: Copy, progress: Progress, stop: threading.Event) -> str:
    """Return the md5 of what stands at `copy`, reading all of it; "" if `stop` was set.

    DVC's own check is not asked: it trusts read-only files and remembered hashes.
    """
    if copy.is_directory:
        return _hash_of_directory(copy, progress, stop)
    digest = md5(usedforsecurity=False)
    # Read in order, once: no read-ahead beyond the chunk.
    options = {} if copy.fs.protocol == "local" else {"block_size": CHUNK}
    with copy.fs.open(copy.path, "rb", **options) as file:
        while chunk := file.read(CHUNK):
            if stop.is_set():
                return ""
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest() + (".dir" if copy.oid.endswith(".dir") else "")


def _hash_of_directory(copy: Copy, progress: Progress, stop: threading.Event) -> str:
    tree = Tree()  # type: ignore[no-untyped-call]  # the only untyped thing of that class
    for relative in _files(copy.output):
        path = copy.fs.join(copy.path, relative)
        value = hash_of(Copy(CACHE, relative, "", path, copy.fs, copy.output), progress, stop)
        tree.add(tuple(relative.split("/")), None, HashInfo("md5", value))
    tree.digest()
    return str(tree.oid)


def _files(out: Output) -> Iterator[str]:
    """Yield the relative paths of the files of a directory that DVC does not ignore."""
    if out.exists:
        for path in out.repo.dvcignore.find(out.fs, out.fs_path):
            yield "/".join(out.fs.relparts(path, out.fs_path))


def _in_stores(
    out: Output, name: str, oid: str, places: Iterable[tuple[str, HashFileDB]]
) -> Iterator[Copy]:
    for place, store in places:
        yield Copy(place, name, oid, store.oid_to_path(oid), store.fs, out)
