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

from src.models import names
from src.params import PARAMS_YAML, load_params

ROOT = Path(__file__).parents[1]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGE_FILES = {f"src/{stage}.py" for stage in STAGES}
# A stage that names its data set at run time depends on all of them.
SOURCES = "src/sources"
# Of the detectors it depends on what they share and on the chosen one, which DVC fills in.
MODELS = "src/models"
CHOSEN = f"{MODELS}/${{model.name}}.py"
SHARED = {path.relative_to(ROOT).as_posix() for path in (ROOT / MODELS).glob("_*.py")}

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
            target = module_file(name) if name.startswith(("src.", "studies.", "report.")) else None
            if target and target not in found:
                found.add(target)
                queue.append(target)
    return found


def deps(stage: str) -> set[str]:
    return paths_in(STAGES[stage], "deps")


def paths_in(entry: dict[str, Any], *kinds: str) -> set[str]:
    found = (path for kind in kinds for path in entry.get(kind, []))
    return {next(iter(path)) if isinstance(path, dict) else path for path in found}


def outs(stage: str) -> set[str]:
    return paths_in(STAGES[stage], "outs", "metrics", "plots")


def needed(files: set[str]) -> set[str]:
    """Return `files` with any data set, and with the chosen detector if they load one."""
    detectors = {CHOSEN} | SHARED if f"{MODELS}/__init__.py" in files else set()
    return {SOURCES if file.startswith(SOURCES) else file for file in files} | detectors


@each_stage
def test_deps_are_the_imports(stage: str) -> None:
    ours = needed(reached(f"src/{stage}.py"))
    # DVC stops where a dep is missing: `weights` runs first and refuses a wrong name in words.
    ours -= {CHOSEN} if stage == "weights" else set()
    assert {dep for dep in deps(stage) if dep.startswith("src/")} == ours


@pytest.mark.parametrize("name", names())
def test_a_detector_imports_no_other_and_nothing_that_its_stages_do_not_depend_on(
    name: str,
) -> None:
    file = CHOSEN.replace("${model.name}", name)
    for stage in STAGES:
        substituted = {dep.replace("${model.name}", name) for dep in deps(stage)}
        if file in substituted:
            assert reached(file) <= substituted


@each_stage
def test_a_stage_has_its_module_and_its_tests(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:3] == ["python", "-m", f"src.{stage}"]
    assert (ROOT / f"src/{stage}.py").is_file()
    assert (ROOT / f"tests/test_{stage}.py").is_file()


@each_stage
def test_each_path_of_the_command_is_a_dep_or_an_out_and_none_is_hidden(stage: str) -> None:
    words = STAGES[stage]["cmd"].split()[3:]
    paths = {word for word in words if not word.startswith("--")}
    data = {dep for dep in deps(stage) if not dep.startswith("src/")} | outs(stage)
    assert paths == data


def sections_loaded(stage: str) -> dict[str, str]:
    """Return section -> dataclass name of every `load_params(Class, "section")` in the stage."""
    text = (ROOT / f"src/{stage}.py").read_text(encoding="utf-8")
    return {section: name for name, section in re.findall(r'load_params\((\w+), "(\w+)"', text)}


@each_stage
def test_params_are_the_sections_it_loads_and_each_validates(stage: str) -> None:
    loaded = sections_loaded(stage)
    sections = {name.split(".")[0] for name in STAGES[stage].get("params", [])}
    assert sections == set(loaded)
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


STUDIES: dict[str, dict[str, Any]] = {
    f"{path.parent.name}:{stage}": entry
    for path in sorted(ROOT.glob("studies/*/dvc.yaml"))
    if path.parent.name != "report"  # it shows what the others found
    for stage, entry in yaml.safe_load(path.read_text())["stages"].items()
}
each_study_stage = pytest.mark.parametrize("name", STUDIES)


def program(name: str) -> str:
    """Return the dotted name of the module that a study's stage runs."""
    python, option, module = STUDIES[name]["cmd"].split()[:3]
    assert (python, option) == ("python", "-m")
    return str(module)


@each_study_stage
def test_a_study_depends_on_its_imports(name: str) -> None:
    module = module_file(program(name))
    assert module
    written = {dep for dep in paths_in(STUDIES[name], "deps") if dep.endswith(".py")}
    assert written == needed(reached(module))


@each_study_stage
def test_a_study_hides_no_path_and_runs_at_the_root(name: str) -> None:
    entry = STUDIES[name]
    assert entry["wdir"] == "../.."
    named = {word for word in entry["cmd"].split()[3:] if "/" in word}
    data = {dep for dep in paths_in(entry, "deps") if not dep.endswith(".py")}
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
    assert (ROOT / f"tests/test_{study}.py").is_file()
    assert f"\n{study}: " in (ROOT / "Makefile").read_text()
    assert f"make {study}" in (ROOT / "docs/studies.md").read_text()


def test_the_report_depends_on_its_imports() -> None:
    entry = yaml.safe_load((ROOT / "report/dvc.yaml").read_text())["stages"]["report"]
    written = {dep for dep in entry["deps"] if dep.endswith(".py")}
    assert written == reached("report/page.py")


def test_the_pipeline_knows_no_study() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        names = imported(path.relative_to(ROOT).as_posix())
        assert not any(name.startswith("studies") for name in names), path
