"""`make gate`: a clone without data is told which stages are not what dvc.lock says."""

import re
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.helpers.tiny_remote import PIPELINE

# It needs a parameter of its own and what `make` wrote.
SECOND = """
  count:
    cmd: python count.py
    deps: [count.py, data/raw]
    params: [unit]
    outs: [data/count.csv]
"""
COUNT = """
import pathlib
pathlib.Path("data/count.csv").write_text(str(len(list(pathlib.Path("data/raw").iterdir()))))
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tiny: Project, tmp_path: Path) -> Project:
    """A clone, without data, of a project with a stage that needs those of another."""
    (tiny.folder / "dvc.yaml").write_text(PIPELINE + SECOND)
    (tiny.folder / "count.py").write_text(COUNT)
    with (tiny.folder / "params.yaml").open("a") as file:
        file.write("unit: 1\n")
    tiny.run("dvc", "repro", "--quiet")
    tiny.commit("Count")
    tiny.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    return Project(tmp_path / "clone", tiny.environment)


def gate(project: Project) -> list[str]:
    return project.run("python", "-m", "tools.gate", check=False).splitlines()


def replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def test_a_stage_whose_data_are_absent_is_named(clone: Project) -> None:
    assert gate(clone) == [
        "Stage 'make' didn't change, skipping",
        "Stage 'count' didn't change, skipping",
        "Data and pipelines are up to date.",
    ]
    replace(clone.folder / "params.yaml", "unit: 1", "unit: 2")
    end = "run dvc repro, then commit dvc.lock and what it changed"
    assert gate(clone)[-1] == f"error: dvc.lock is not what dvc repro would write of count: {end}"
    (clone.folder / "make.py").write_text("print()\n")
    assert f"write of make, count: {end}" in gate(clone)[-1]
    assert not (clone.folder / "data").exists()


def test_a_lock_that_contradicts_itself_is_named(clone: Project) -> None:
    """Half of a run was committed: what one stage wrote is not what the next one read."""
    text = (clone.folder / "dvc.lock").read_text()
    first = re.sub(r"\w+\.dir", "0" * 32 + ".dir", text, count=1)
    (clone.folder / "dvc.lock").write_text(first)
    assert "write of count:" in gate(clone)[-1]


def test_a_broken_pipeline_is_one_line(clone: Project) -> None:
    (clone.folder / "dvc.yaml").write_text("stages: [\n")
    (line,) = gate(clone)
    assert line.startswith("error: unable to read: 'dvc.yaml'")
