"""The files in which DVC keeps its own state: can they be read? Edited so that none is lost.

DVC itself ends in a parser's words where one of them was cut short by a kill or a full disk.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

from src.core.cli import InputError, run
from src.core.files import replacing

RWLOCK = ".dvc/tmp/rwlock"
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def unreadable(root: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with which file of the checkout `root`, and the command that helps."""
    for pattern in ("dvc.lock", "*/dvc.lock", "studies/*/dvc.lock"):
        for path in sorted(root.glob(pattern)):
            if problem := _problem_of_lock(path.read_text(encoding="utf-8", errors="replace")):
                name = path.relative_to(root).as_posix()
                restore = f"git checkout HEAD -- {name}, then make repro: runs are remembered"
                yield f"{name} {problem}", restore
    rwlock = root / RWLOCK
    if rwlock.exists() and not _is_json_object(rwlock):
        yield f"{RWLOCK} is not whole", f"rm {RWLOCK}: it says who is at work, nothing else"


def _problem_of_lock(text: str) -> str:
    if "\n<<<<<<< " in f"\n{text}":
        return "holds a merge conflict"
    try:
        document = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        entries = [
            entry
            for stage in document["stages"].values()
            for kind in ("deps", "outs")
            for entry in stage.get(kind, [])
        ]
        hashes = [str(entry["md5"]) for entry in entries if entry.get("hash") == "md5"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return "is damaged or cut short"
    is_whole = text.endswith("\n") and all(map(MD5.fullmatch, hashes))
    return "" if is_whole else "is cut short"


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


@contextmanager
def editing(repo: "Repo", level: str) -> Iterator[dict[str, Any]]:
    """Yield the settings of `level` (repo, local); write them on success, else change nothing.

    DVC empties the file before it finds that it cannot write a character.
    """
    path = Path(repo.config.files[level])
    before = path.read_bytes() if path.exists() else b""
    try:
        if not before.isascii():
            raise InputError(f"{path} holds characters that DVC cannot write: use ASCII alone")
        with repo.config.edit(level) as document:
            yield document
    except BaseException:
        if path.exists() and path.read_bytes() != before:
            with replacing(path) as temporary:
                temporary.write_bytes(before)
        raise


def main(argv: Sequence[str] | None = None) -> None:
    """Check.

    Raises:
        InputError: a file is damaged.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    for found, advice in unreadable(Path.cwd()):
        raise InputError(f"{found}: {advice}")


if __name__ == "__main__":
    run(main)
