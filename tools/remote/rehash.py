"""Copies of files -> which of them still are what dvc.lock says, after reading every byte."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from tools.remote.s3_errors import REMOTE_ERRORS, explain
from tools.remote.stored_objects import NOTHING, Copy, hash_of

OK, MISSING, DAMAGED, UNEXPECTED = "ok", "missing", "DAMAGED", "unexpected"
# Hashing is bound by the cores, and releases the interpreter; a remote answers better to several.
THREADS = max(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Result:
    """What stands at `copy`: OK, MISSING, DAMAGED, UNEXPECTED, or why it could not be read."""

    copy: Copy
    state: str


@dataclass(frozen=True)
class _Found:
    identity: tuple[object, ...]  # equal for links to the same bytes
    size: int


def rehash(wanted: Sequence[Copy]) -> list[Result]:
    """Return the state of each of `wanted`, in their order; links to one file are read once."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(_look_up, wanted))
        hashes = _hash_each_once(wanted, found, pool)
    return [
        Result(copy, _state(copy, hashes[each.identity]) if isinstance(each, _Found) else each)
        for copy, each in zip(wanted, found, strict=True)
    ]


def _look_up(copy: Copy) -> _Found | str:
    """Return identity and size of a copy, or its state when there is nothing to read."""
    try:
        info = copy.fs.info(copy.path)
    except FileNotFoundError:
        return MISSING
    except REMOTE_ERRORS as error:
        return explain(error).found
    if copy.oid == NOTHING:
        return UNEXPECTED
    if info["type"] == "directory" or "ino" not in info:
        return _Found((copy.place, copy.path), info["size"] or 0)
    # The file behind a link, not the link, as the hash is of that too.
    status = os.stat(copy.path)  # noqa: PTH116 - the path is a string of DVC's
    return _Found((status.st_dev, status.st_ino), status.st_size)


def _hash_each_once(
    wanted: Sequence[Copy], found: Sequence[_Found | str], pool: ThreadPoolExecutor
) -> dict[tuple[object, ...], str]:
    """Return the hash, or why there is none, by identity."""
    firsts = {
        each.identity: (copy, each.size)
        for copy, each in zip(wanted, found, strict=True)
        if isinstance(each, _Found)
    }
    stop, lock = threading.Event(), threading.Lock()
    total = sum(size for _, size in firsts.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", disable=None) as bar:

        def advance(size: int) -> None:
            with lock:
                bar.update(size)

        def hash_or_reason(first: tuple[Copy, int]) -> str:
            try:
                return hash_of(first[0], advance, stop)
            except REMOTE_ERRORS as error:
                return explain(error).found

        try:
            return dict(zip(firsts, pool.map(hash_or_reason, firsts.values()), strict=True))
        finally:
            stop.set()  # after Ctrl-C, what is still being read is of no interest


def _state(copy: Copy, value: str) -> str:
    if value == copy.oid:
        return OK
    return value if " " in value else DAMAGED
