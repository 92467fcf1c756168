"""Files are whole or absent."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.core.files import read_json, remove_leftovers, replacing, write_json


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_replaces_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    for name in ("first", "second"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [child.name for child in path.iterdir()] == ["second"]
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a[1].d"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".{path.name}.{ended.pid}.1.tmp"
    left.mkdir()
    (left / "half").touch()
    running = tmp_path / f".{path.name}.{os.getpid()}.1.tmp"
    running.touch()
    others = [tmp_path / ".a[1].d.notes.1.tmp", tmp_path / f".b.{ended.pid}.1.tmp"]
    for other in others:
        other.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted([running, *others])


def test_json_has_sorted_keys_and_six_digits(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write_json({"b": 1 / 3, "a": [1, 2.0], "n": None}, path)
    assert path.read_text() == (
        '{\n  "a": [\n    1,\n    2.0\n  ],\n  "b": 0.333333,\n  "n": null\n}\n'
    )
    assert read_json(path)["b"] == 0.333333


def test_json_refuses_what_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "m.json")
    assert list(tmp_path.iterdir()) == []


def test_the_next_write_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from src.core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "table.csv"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    [left] = tmp_path.iterdir()
    ignored = subprocess.run(["git", "check-ignore", "--no-index", left.name], check=False)
    assert ignored.returncode == 0
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


class _WriterError(Exception):
    """As of a library that is not written in Python."""


@pytest.mark.parametrize(
    ("message", "free"), [("IoError(Os { message: No space left on device })", 1 << 40), ("?", 0)]
)
def test_a_full_disk_is_named_whatever_the_writer_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, free: int
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OSError, match=r"No space left on device: .*weights\.safetensors"):
        write_and_fail(path, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS])
def test_what_the_system_refuses_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(OSError, match=rf"{os.strerror(number)}: .*a\.bin") as caught:
        write_and_fail(tmp_path / "a.bin", f"I/O error: whatever (os error {number})")
    assert caught.value.errno == number


def test_another_failure_of_a_writer_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(_WriterError, match="bad shape"):
        write_and_fail(tmp_path / "a", "bad shape")


def write_and_fail(path: Path, message: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise _WriterError(message)
