"""Names on a command line -> the files to judge, and a count of those that were left out."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from src.sources.local.paths import IMAGE_SUFFIXES, LeftOut, walk

# Looked at whatever they hold, so that a damaged one is named.
SUFFIXES = IMAGE_SUFFIXES | {".apng", ".dib", ".heic", ".heif", ".hif", ".j2k", ".jp2", ".jpe"}
# How the bytes of an image begin, whatever its name: (offset, bytes).
_SIGNATURES = (
    *((0, start) for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")),
    *((0, start) for start in (b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51")),
    *((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif")),
    (8, b"WEBP"),
)
_HEAD = 16  # bytes that the longest signature needs


class Unreadable(NamedTuple):
    """A file that is not an image, or a folder that cannot be searched."""

    path: str
    reason: str


@dataclass
class Search:
    """What the names on a command line mean."""

    found: list[Path | Unreadable] = field(default_factory=list)
    no_images: Counter[str] = field(default_factory=Counter)  # files by suffix, in folders only
    left_out: LeftOut = field(default_factory=LeftOut)  # hidden files, the system's, loops, pipes


def find_images(names: Iterable[str], listed: Iterable[bytes]) -> Search:
    """Return the files that `names` mean, folders in the order of their paths.

    "-" stands for the paths in `listed`, the lines of a file. In a folder an image is what has
    the suffix of one or begins like one; a file that is named outright is always taken.
    """
    search = Search()
    for name in names:
        if name == "-":
            search.found += map(Path, paths_of(listed))
        elif _is_folder(Path(name)):
            search.found += sorted(_below(name, search), key=_path)
        else:
            search.found.append(Path(name))
    return search


def paths_of(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the path in each line that has one; lines may come from Windows (CRLF, BOM)."""
    for number, line in enumerate(lines):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        text = text.removesuffix(b"\n")
        if text.endswith(b"\r") and not os.path.lexists(text):
            text = text.removesuffix(b"\r")
        if text.strip():
            yield os.fsdecode(text)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, a closed folder above it: reading it will say so
        return False


def _path(found: Path | Unreadable) -> Path:
    return Path(found.path) if isinstance(found, Unreadable) else found


def _below(top: str, search: Search) -> Iterator[Path | Unreadable]:
    closed: list[OSError] = []
    for path in walk(
        Path(top), follow_links=True, left_out=search.left_out, on_error=closed.append
    ):
        if _is_image(path):
            yield path
        else:
            search.no_images[path.suffix.lower() or "no suffix"] += 1
    for error in closed:
        yield Unreadable(str(error.filename), f"a folder, not searched: {error.strerror}")


def _is_image(path: Path) -> bool:
    """Return whether the file has the suffix of an image, or begins like one."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        return _begins_like_an_image(path)
    except OSError:  # a file that is closed to us: it has no image's name
        return False


def _begins_like_an_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return any(head.startswith(start, offset) for offset, start in _SIGNATURES)
