"""The architecture, checked: a stage's entry in dvc.yaml says exactly what it depends on."""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.params import load_params

ROOT = Path(__file__).parents[1]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGE_FILES = {f"src/{stage}.py" for stage in STAGES}
# A stage that names its data set at run time depends on all of them.
SOURCES = "src/sources"

each_stage = pytest.mark.parametrize("stage", STAGES)


def module_file(name: str) -> str | None:
    path = Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return None if only_a_docstring(candidate) else candidate.as_posix()
    return None


@cache
def only_a_docstring(file: Path) -> bool:
    """Whether `file` computes nothing, as the `__init__.py` of most packages."""
    return len(ast.parse((ROOT / file).read_text(encoding="utf-8")).body) <= 1


@cache
def imported(file: str) -> frozenset[str]:
    """Return the modules that `file` imports, by dotted name, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def reached(file: str) -> set[str]:
    """Return our files that `file` imports, directly or not, and itself."""
    found, queue = {file}, [file]
    while queue:
        for name in imported(queue.pop()):
            target = module_file(name) if name.startswith("src.") else None
            if target and target not in found:
                found.add(target)
                queue.append(target)
    return found


def deps(stage: str) -> set[str]:
    return {next(iter(dep)) if isinstance(dep, dict) else dep for dep in STAGES[stage]["deps"]}


def outs(stage: str) -> set[str]:
    paths = set()
    for kind in ("outs", "metrics", "plots"):
        for out in STAGES[stage].get(kind, []):
            paths.add(next(iter(out)) if isinstance(out, dict) else out)
    return paths


@each_stage
def test_deps_are_the_imports(stage: str) -> None:
    files = reached(f"src/{stage}.py")
    ours = {SOURCES if file.startswith(SOURCES) else file for file in files}
    assert {dep for dep in deps(stage) if dep.startswith("src/")} == ours


@each_stage
def test_a_stage_has_its_module_and_its_tests(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:3] == ["python", "-m", f"src.{stage}"]
    assert (ROOT / f"src/{stage}.py").is_file()
    assert (ROOT / f"tests/test_{stage}.py").is_file()


@each_stage
def test_each_path_of_the_command_is_a_dep_or_an_out_and_none_is_hidden(stage: str) -> None:
    paths = set(STAGES[stage]["cmd"].split()[3:])
    data = {dep for dep in deps(stage) if not dep.startswith("src/")} | outs(stage)
    assert paths == data


def sections_loaded(stage: str) -> dict[str, str]:
    """Return section -> dataclass name of every `load_params(Class, "section")` in the stage."""
    text = (ROOT / f"src/{stage}.py").read_text(encoding="utf-8")
    return {section: name for name, section in re.findall(r'load_params\((\w+), "(\w+)"', text)}


@each_stage
def test_params_are_the_sections_it_loads_and_each_validates(stage: str) -> None:
    loaded = sections_loaded(stage)
    assert set(STAGES[stage].get("params", [])) == set(loaded)
    module = importlib.import_module(f"src.{stage}")
    for section, name in loaded.items():
        cls = getattr(module, name)
        assert isinstance(cls, type)
        assert is_dataclass(cls)
        load_params(cls, section, ROOT / "params.yaml")


def test_every_section_belongs_to_a_stage() -> None:
    sections = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(sections) == {section for stage in STAGES for section in sections_loaded(stage)}


def named_keys(document: object) -> Iterator[str]:
    """Yield every key of nested mappings and lists."""
    if isinstance(document, dict):
        yield from document
    items = document.values() if isinstance(document, dict) else document
    if isinstance(items, Iterable) and not isinstance(items, str):
        for item in items:
            yield from named_keys(item)


def test_no_parameter_has_a_name_that_the_run_cache_overlooks() -> None:
    # DVC looks a run up by a hash of dependencies and parameters from which it drops, at any
    # depth, the keys by which it describes files (`_get_cache_hash` in dvc/stage/cache.py). Another
    # value of such a parameter would bring back the outputs of the old one, without a word.
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert not set(named_keys(yaml.safe_load(text))) & {"size", "nfiles"}


@pytest.mark.parametrize(
    "file", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("src/**/*.py"))
)
def test_nobody_imports_a_stage(file: str) -> None:
    stages = {f"src.{stage}" for stage in STAGES}
    assert not imported(file) & stages


def outside(file: str) -> set[str]:
    """Return the packages that `file` reaches through our modules."""
    return {name.split(".")[0] for ours in reached(file) for name in imported(ours)}


def test_metrics_and_plots_need_no_torch_and_no_files() -> None:
    for file in ("src/judging/metrics.py", "src/judging/plots.py"):
        assert not outside(file) & {"torch", "timm", "dvc"}
        assert not imported(file) & {"src.files", "src.shards", "src.params"}


def test_train_knows_neither_metrics_nor_plots() -> None:
    assert not reached("src/train.py") & {"src/judging/metrics.py", "src/judging/plots.py"}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "download"])
def test_only_download_may_know_the_network(stage: str) -> None:
    assert not outside(f"src/{stage}.py") & {
        "boto3",
        "botocore",
        "dvc",
        "requests",
        "fsspec",
        "s3fs",
    }


def test_only_shards_knows_the_storage() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if path.name != "shards.py" and "sources" not in path.parts:
            assert "tarfile" not in imported(path.relative_to(ROOT).as_posix()), path


def test_only_models_know_timm() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if "models" not in path.parts:
            names = imported(path.relative_to(ROOT).as_posix())
            assert "timm" not in {name.split(".")[0] for name in names}, path
