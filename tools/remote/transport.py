"""Stored objects -> another store, hashed on the way and whole or absent when they arrive."""

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from src.core.cli import InputError
from src.core.files import replacing
from tools.remote.s3_errors import REMOTE_ERRORS, explain
from tools.remote.stored_objects import CACHE, Copy

THREADS = 8


def send_all(pairs: Sequence[tuple[Copy, Copy]], task: str) -> list[tuple[Copy, str]]:
    """Send each source to its target; return the targets that failed and why, with the cure."""
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(pairs), desc=task, unit="object", disable=None) as bar,
    ):
        failures = []
        for (_, target), failure in zip(pairs, pool.map(_failure, pairs), strict=True):
            bar.update()
            if failure:
                failures.append((target, failure))
        return failures


def _failure(pair: tuple[Copy, Copy]) -> str:
    try:
        send(*pair)
    except InputError as error:
        return str(error)
    except REMOTE_ERRORS as error:
        return f"{explain(error).found}; {explain(error).advice}"
    return ""


def send(source: Copy, target: Copy) -> None:
    """Put the bytes of `source` at `target`, in one step.

    Raises:
        InputError: they have not the hash that they should have; nothing was written.
    """
    if target.place == CACHE:
        with replacing(Path(target.path)) as temporary:
            _fetch(source, temporary)
            temporary.chmod(0o444)  # DVC takes what is read-only for whole
    elif source.is_remote:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, "object")
            _fetch(source, temporary)
            target.fs.put_file(str(temporary), target.path)
    else:
        _check(Path(source.path), source)
        target.fs.put_file(source.path, target.path)


def _fetch(source: Copy, path: Path) -> None:
    source.fs.get_file(source.path, str(path))
    _check(path, source)


def _check(path: Path, source: Copy) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
    if found.hexdigest() != source.oid.removesuffix(".dir"):
        raise InputError(f"{source} is damaged: make verify REPAIR=1 puts a whole copy there")
