"""Atomic writes: write to a temporary name, then rename."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FULL = 1 << 20  # bytes that are free on a disk that counts as full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, delete it on failure.

    Works for files and for directories. The parent directory is created, and what killed processes
    left of earlier attempts is removed.

    Raises:
        OSError: it cannot be written (a full disk), whatever the writer raises; it names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    # Process and thread: two that write the same output must not share a temporary name.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a failed write does not know what it was writing
            error.filename = str(path)
        raise
    except Exception as error:
        # Writers in other languages have errors of their own for it: safetensors, torch.
        system = re.search(r"\bos error (\d+)", str(error))
        full = shutil.disk_usage(path.parent).free < _FULL or "No space left" in str(error)
        if number := errno.ENOSPC if full else int(system[1]) if system else 0:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        _remove(temporary)


def remove_leftovers(path: Path) -> None:
    """Delete what processes that were killed while replacing `path` left beside it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.\d+\.tmp")
    for leftover in path.parent.glob(".*.tmp"):
        if (found := name.fullmatch(leftover.name)) and not _is_running(int(found[1])):
            _remove(leftover)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is, and belongs to somebody else
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(document: Mapping[str, Any], path: Path, *, sort_keys: bool = True) -> None:
    """Write `document`, floats at six significant digits, with a final newline."""
    text = json.dumps(_rounded(document), indent=2, sort_keys=sort_keys, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _rounded(value: Any) -> Any:
    # Six digits are more than any interval here supports, and the last bits of a float
    # differ between processors: without this, a diff of metrics is never empty.
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
