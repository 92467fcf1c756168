"""The architecture of the studies, checked as that of the pipeline is."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.core.params import PARAMS_YAML, load_params
from tests.helpers import ROOT
from tests.test_contracts import STAGES, paths_in
from tools.deps import imported, is_code

STUDIES: dict[str, dict[str, Any]] = {
    f"{path.parent.name}:{stage}": entry
    for path in sorted(ROOT.glob("studies/*/dvc.yaml"))
    for stage, entry in yaml.safe_load(path.read_text())["stages"].items()
}
each_study_stage = pytest.mark.parametrize("name", STUDIES)


def program(name: str) -> str:
    """Return the dotted name of the module that a study's stage runs."""
    python, option, module = STUDIES[name]["cmd"].split()[:3]
    assert (python, option) == ("python", "-m")
    return str(module)


@each_study_stage
def test_a_study_hides_no_path_and_runs_at_the_root(name: str) -> None:
    entry = STUDIES[name]
    assert entry["wdir"] == "../.."
    named = {word for word in entry["cmd"].split()[3:] if "/" in word}
    data = {dep for dep in paths_in(entry, "deps") if not is_code(dep)}
    assert named == data | paths_in(entry, "outs")


@each_study_stage
def test_a_study_calls_a_stage_as_the_pipeline_does(name: str) -> None:
    package, _, stage = program(name).partition(".")
    if package != "src":
        return
    ours, main = (
        [Path(word).name for word in entry["cmd"].split()]
        for entry in (STUDIES[name], STAGES[stage])
    )
    assert ours == main
    assert STUDIES[name]["params"] == STAGES[stage]["params"]


@each_study_stage
def test_a_study_that_nobody_ran_does_not_stop_dvc_pull(name: str) -> None:
    assert all(out[path]["cache"] is False for out in STUDIES[name]["outs"] for path in out)


@each_study_stage
def test_a_study_names_the_sections_it_loads_and_each_validates(name: str) -> None:
    study = name.split(":")[0]
    of_study = f"studies/{study}/params.yaml"
    named: set[tuple[str, str]] = set()
    for entry in STUDIES[name]["params"]:
        file, sections = (
            next(iter(entry.items())) if isinstance(entry, dict) else ("params.yaml", [entry])
        )
        named |= {(file, section) for section in sections}
    module = importlib.import_module(program(name))
    assert module.__file__
    text = Path(module.__file__).read_text(encoding="utf-8")
    loaded = re.findall(r'load_params\((\w+), "(\w+)"(, PARAMS)?', text)
    for cls, section, own in loaded:
        path = module.PARAMS if own else ROOT / PARAMS_YAML
        load_params(getattr(module, cls), section, path)
    assert named == {(of_study if own else "params.yaml", section) for _, section, own in loaded}


@pytest.mark.parametrize("study", sorted({name.split(":")[0] for name in STUDIES}))
def test_a_study_has_tests_and_a_target_and_a_page(study: str) -> None:
    assert (ROOT / f"tests/studies/test_{study}.py").is_file()
    assert f"\n{study}: " in (ROOT / "Makefile").read_text()
    assert f"make {study}" in (ROOT / "docs/studies.md").read_text()


def test_the_pipeline_knows_no_study() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        names = imported(path.relative_to(ROOT).as_posix())
        assert not any(name.startswith("studies") for name in names), path
