"""`make doctor` on this machine and this checkout."""

import ast
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT, Project
from tools.remote.check_machine import (
    check_checkout,
    check_disk,
    check_environment_disk,
    check_packages,
    check_processor,
    check_python,
    check_shared_memory,
    check_system,
)
from tools.remote.finding import Finding, Level, fail, ok, warn


def usage(size: int, _folder: Path) -> SimpleNamespace:
    return SimpleNamespace(total=size, used=0, free=size)


def test_a_finding_is_one_line() -> None:
    assert str(ok("bucket", "is there")) == "ok    bucket: is there"
    assert str(warn("disk", "little", "delete")) == "warn  disk: little; delete"
    assert str(fail("key", "wrong", "mend")) == "FAIL  key: wrong; mend"


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10), Level.FAIL), ((3, 11), Level.OK), ((3, 14), Level.OK)]
)
def test_python_is_new_enough(version: tuple[int, int], level: Level) -> None:
    assert check_python(version).level == level


def test_a_processor_that_computes_other_bits_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    finding = check_processor()
    assert finding.level == Level.WARN
    assert finding.found.startswith("this processor is aarch64, not x86-64: bits will differ")


def test_the_environment_is_the_pinned_one() -> None:
    assert check_packages(ROOT / "requirements.txt").level == Level.OK


def test_what_differs_from_the_pins_is_named(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        "# comment\nnumpy==0.1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via x\n"
        "no-such-package==1.0\nabsent==1 ; sys_platform == 'amiga'\n"
    )
    finding = check_packages(requirements)
    assert finding.level == Level.FAIL
    assert "numpy is " in finding.found
    assert "no-such-package is missing" in finding.found
    assert "absent" not in finding.found


@pytest.mark.parametrize("text", [None, "numpy 1.2\n", "numpy==\n"])
def test_pins_that_cannot_be_read_are_named(tmp_path: Path, text: str | None) -> None:
    requirements = tmp_path / "requirements.txt"
    if text is not None:
        requirements.write_text(text)
    finding = check_packages(requirements)
    assert finding.level == Level.FAIL
    assert "requirements.txt" in finding.found
    assert (text or "No such file").strip() in finding.found
    assert finding.advice.startswith("git checkout ")


@pytest.mark.parametrize(
    ("free", "needed", "level"),
    [(100, 200, Level.FAIL), (6e9, 5e9, Level.WARN), (9e9, 1e9, Level.OK)],
)
def test_a_disk_must_hold_what_is_still_to_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, needed: float, level: Level
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert check_disk("disk", tmp_path, int(needed)).level == level


@pytest.mark.slow
def test_a_built_checkout_is_well_and_a_changed_one_is_said_to_be(tiny: Project) -> None:
    def pipeline() -> Finding:
        return next(check_checkout(tiny.folder))

    assert str(pipeline()).startswith(
        "ok    pipeline: the workspace is what dvc.lock says, by sizes"
    )
    (tiny.folder / "params.yaml").write_text("length: 1\n")
    assert (pipeline().level, "make" in pipeline().found) == (Level.WARN, True)
    (tiny.folder / "dvc.lock").unlink()
    assert pipeline().found == "there is no dvc.lock"
    (tiny.folder / "dvc.yaml").write_text("stages: 3\n")
    (tiny.folder / "dvc.lock").touch()
    assert pipeline().level == Level.FAIL


def test_a_python_that_is_too_old_is_told_so(tmp_path: Path) -> None:
    """As far as this one can be made to look like 3.8, without what is newer."""
    program = (
        f"import enum, sys; sys.path.insert(0, {str(ROOT)!r}); sys.version_info = (3, 8, 10)\n"
        "del enum.StrEnum\n"
        "import tools.remote.check_machine as m, tools.doctor as d\n"
        # Read at import, as they would be without the __future__, `tuple[...]` ends 3.8.
        "assert m.check_python.__annotations__['version'] == 'tuple[int, int]'\n"
        "assert d.diagnose.__annotations__['return'] == 'Iterator[Finding]'\n"
        "d.main([])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("FAIL  python: 3.8; 3.11 or newer is needed")
    assert (done.stdout.count("\n"), done.stderr, done.returncode) == (1, "", 1)
    for name in ("remote/check_machine", "doctor", "remote/finding"):
        ast.parse((ROOT / f"tools/{name}.py").read_text(), feature_version=(3, 8))


def test_without_its_packages_the_doctor_still_speaks(tmp_path: Path) -> None:
    """A Python that sees nothing but the standard library."""
    shutil.copy2(ROOT / "requirements.txt", tmp_path)
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tools.doctor as d; d.main([])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "FAIL  dvc: does not import" in done.stdout
    assert "make setup" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("system", "level"),
    [("Linux", Level.OK), ("Darwin", Level.OK), ("Windows", Level.FAIL), ("", Level.FAIL)],
)
def test_the_operating_system_is_one_of_those_that_are_known(system: str, level: Level) -> None:
    assert check_system(system).level == level


def test_little_shared_memory_is_named_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(check_shared_memory(tmp_path / "of another system"))
    for size, expected in ((64_000_000, 1), (2_000_000_000, 0)):
        monkeypatch.setattr(shutil, "disk_usage", partial(usage, size))
        assert len(list(check_shared_memory(tmp_path))) == expected
    monkeypatch.setattr(shutil, "disk_usage", partial(usage, 64_000_000))
    (finding,) = check_shared_memory(tmp_path)
    assert "has 64 MB" in str(finding)
    assert "--shm-size=2g" in str(finding)


def test_without_an_environment_there_must_be_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", partial(usage, 6_000_000_000))
    (finding,) = check_environment_disk(tmp_path, tmp_path / ".venv")
    assert "6.0 GB free" in str(finding)
    assert "7 GB are needed" in str(finding)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.ready").touch()
    assert not list(check_environment_disk(tmp_path, tmp_path / ".venv"))
