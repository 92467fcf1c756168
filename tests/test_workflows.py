"""The GitHub workflows are well-formed, safe, and call what is here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github/actions").glob("*/action.yml"))


def run(*command: str | Path) -> None:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_follow_githubs_schema() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    run("check-jsonschema", "--builtin-schema", "vendor.github-actions", *ACTIONS)


def test_workflows_give_no_rights_away() -> None:
    run("zizmor", "--offline", "--quiet", "--min-severity=medium", ".github")


def test_workflows_pass_actionlint() -> None:
    run("actionlint", *WORKFLOWS)


def test_the_rebuild_hands_over_the_page_that_it_makes() -> None:
    (page,) = yaml.safe_load((ROOT / "report/dvc.yaml").read_text())["stages"]["report"]["outs"]
    steps = yaml.safe_load((ROOT / ".github/workflows/repro.yml").read_text())["jobs"]["repro"]
    (upload,) = [step["with"] for step in steps["steps"] if "path" in step.get("with", {})]
    assert upload["name"] == "report"
    assert next(iter(page)) in upload["path"].split()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_makes_is_a_target(path: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"\bmake ([a-z0-9-]+)", path.read_text()))
    assert made
    assert made <= targets
