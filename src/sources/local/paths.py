"""Which files of somebody's folder are looked at: one walk, one list of image suffixes.

For data sets and for own images alike. Not in `core`, which every stage depends on: another suffix
must not retrain the model.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"}
    | {".jp2", ".bmp", ".gif", ".tif", ".tiff"}
)
# What file managers, NAS boxes and operating systems leave behind, besides names with a dot.
_SYSTEM_NAMES = (
    r"__MACOSX",
    r"Icon\r",
    r"@eaDir",
    r"@__thumb",
    r"@Recycle",
    r"#recycle",
    r"#snapshot",
    r"lost\+found",
    r"\$RECYCLE\.BIN",
    r"RECYCLER",
    r"System Volume Information",
    r"(?:eh)?thumbs(?:_vista)?\.db",
    r"desktop\.ini",
)
# For Python's `re` and for RE2 (pyarrow); "." and ".." are no names.
HIDDEN = rf"(?i)(?:^|/)(?:\.[^/.]|\.\.[^/]|(?:{'|'.join(_SYSTEM_NAMES)})(?:/|$))"
_HIDDEN = re.compile(HIDDEN)


def is_hidden(path: str) -> bool:
    """Return whether a part of `path`, below the folder that the user named, is hidden.

    Hidden are names that begin with a dot, and what systems keep for themselves.
    """
    return _HIDDEN.search(path) is not None


class LeftOut:
    """Counts what a walk does not yield, by reason, for one warning."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        """Count `path`; `reason` is a plural, such as "links that lead out of the folder"."""
        self._counts[reason] = self._counts.get(reason, 0) + count
        self._first.setdefault(reason, path)

    def __bool__(self) -> bool:
        """Return whether anything was left out."""
        return bool(self._counts)

    def __str__(self) -> str:
        """Return how many of what, and the first of each."""
        return "; ".join(
            f"{count:,} {reason} (first: {self._first[reason]!r})"
            for reason, count in self._counts.items()
        )


HIDDEN_REASON = "hidden or system files or folders"
LINK_REASON = "links that lead out of the folder"
LOOP_REASON = "links to a folder that is read already, or to themselves"
_SPECIAL_REASON = "devices, pipes or sockets"


def _raise(error: OSError) -> NoReturn:
    raise error


def walk(
    folder: Path,
    *,
    follow_links: bool,
    left_out: LeftOut,
    on_error: Callable[[OSError], object] = _raise,
) -> Iterator[Path]:
    """Yield the files below `folder`, in the order of their names; what else is there is counted.

    Links that stay inside `folder` are followed, those that lead out of it only with
    `follow_links`. A link to nowhere is yielded: reading it says so. `on_error` hears of folders
    that cannot be listed.

    Raises:
        OSError: a folder cannot be listed, unless `on_error` allows that.
    """
    root = os.path.realpath(folder)
    seen: set[str] = set()
    for directory, children, names in os.walk(folder, onerror=on_error, followlinks=True):
        if (real := os.path.realpath(directory)) in seen:
            left_out.add(LOOP_REASON, _below(folder, directory))
            children.clear()
            continue
        seen.add(real)

        def is_wanted(name: str, directory: str = directory) -> bool:
            path = os.path.join(directory, name)  # noqa: PTH118 - ten times as fast, per file
            reason = _reason(path, name, root, follow_links)
            if reason:
                left_out.add(reason, _below(folder, path))
            return not reason

        children[:] = filter(is_wanted, sorted(children))
        yield from (Path(directory, name) for name in filter(is_wanted, sorted(names)))


def _below(folder: Path, path: str) -> str:
    return os.path.relpath(path, folder)


def _reason(path: str, name: str, root: str, follow_links: bool) -> str:
    """Return why `path` is not looked at, "" where it is."""
    if is_hidden(name):
        return HIDDEN_REASON
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if not follow_links and not _is_inside(os.path.realpath(path), root):
                return LINK_REASON
            mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return ""
    except OSError as error:
        return LOOP_REASON if error.errno == errno.ELOOP else ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else _SPECIAL_REASON


def _is_inside(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip("/") + "/")
