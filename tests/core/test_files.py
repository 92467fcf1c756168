"""Files are whole or absent."""

import os
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
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [running]


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
