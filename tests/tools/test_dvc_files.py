"""DVC's own files, cut short: which one, and the command that helps."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Project
from tests.helpers import ROOT
from tools.dvc_files import unreadable
from tools.remote.check_machine import check_checkout

LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")


def problems(folder: Path) -> list[str]:
    return [f"{found}; {advice}" for found, advice in unreadable(folder)]


def test_those_of_this_checkout_are_whole() -> None:
    assert problems(ROOT) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(end=st.integers(0, len(LOCK) - 1))
def test_a_lock_cut_anywhere_but_between_lines_is_named(tmp_path: Path, end: int) -> None:
    (tmp_path / "studies/holdout").mkdir(parents=True, exist_ok=True)
    text = LOCK[:end]
    (tmp_path / "studies/holdout/dvc.lock").write_text(text, encoding="utf-8")
    if not text.endswith("\n") or "stages" not in text:
        (problem,) = problems(tmp_path)
        assert problem.startswith("studies/holdout/dvc.lock is ")
        assert "git checkout HEAD -- studies/holdout/dvc.lock" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is damaged or cut short"),
        ("\0" * 512, "is damaged or cut short"),
        ("[]\n", "is damaged or cut short"),
        ("<<<<<<< HEAD\n" + LOCK, "holds a merge conflict"),
        (LOCK.rstrip("\n"), "is cut short"),
    ],
)
def test_what_a_kill_a_disk_and_a_merge_leave_is_told_apart(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"dvc.lock {expected}; git checkout HEAD -- dvc.lock")


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{", b"\0\0\0"])
def test_an_empty_rwlock_is_named_and_its_command_works(tiny: Project, content: bytes) -> None:
    rwlock = tiny.folder / ".dvc/tmp/rwlock"
    rwlock.write_bytes(content)
    (finding,) = check_checkout(tiny.folder)
    assert str(finding).startswith("FAIL  pipeline: .dvc/tmp/rwlock is not whole; rm .dvc/tmp/rwl")
    said = tiny.run("python", "-m", "tools.dvc_files", check=False)
    assert said.startswith("error: .dvc/tmp/rwlock is not whole: rm .dvc/tmp/rwlock")
    subprocess.run(["bash", "-c", "rm .dvc/tmp/rwlock"], cwd=tiny.folder, check=True)
    assert "up to date" in tiny.run("dvc", "repro")
