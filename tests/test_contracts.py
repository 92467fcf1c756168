"""The architecture, checked: a stage's entry in dvc.yaml says exactly what it depends on."""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.core.params import PARAMS_YAML, load_params
from src.models.shared.blueprint import names
from src.sources import origins
from tests.helpers import ROOT
from tools.deps import CHOSEN, imported, is_code, pipeline_files, reached, rewritten

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGE_FILES = {f"src/{stage}.py" for stage in STAGES}
PIPELINE_FILES = [path.relative_to(ROOT).as_posix() for path in pipeline_files()]

each_stage = pytest.mark.parametrize("stage", STAGES)


def deps(stage: str) -> set[str]:
    return paths_in(STAGES[stage], "deps")


def paths_in(entry: dict[str, Any], *kinds: str) -> set[str]:
    found = (path for kind in kinds for path in entry.get(kind, []))
    return {next(iter(path)) if isinstance(path, dict) else path for path in found}


def outs(stage: str) -> set[str]:
    return paths_in(STAGES[stage], "outs", "metrics", "plots")


@pytest.mark.parametrize("path", PIPELINE_FILES)
def test_deps_are_the_imports(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert rewritten(text) == text, f"{path} does not say what its stages import: run make deps"


@pytest.mark.parametrize("name", names())
def test_a_detector_imports_no_other_and_nothing_that_its_stages_do_not_depend_on(
    name: str,
) -> None:
    file = CHOSEN.replace("${model.name}", name)
    for stage in STAGES:
        substituted = {dep.replace("${model.name}", name) for dep in deps(stage)}
        if file in substituted:
            folders = {dep for dep in substituted if not dep.endswith(".py")}
            inside = {
                path for path in reached([file]) if any(map(Path(path).is_relative_to, folders))
            }
            assert reached([file]) - inside <= substituted


@each_stage
def test_a_stage_has_its_module_and_its_tests(stage: str) -> None:
    assert STAGES[stage]["cmd"].split()[:3] == ["python", "-m", f"src.{stage}"]
    assert (ROOT / f"src/{stage}.py").is_file()
    assert (ROOT / f"tests/test_{stage}.py").is_file()


@each_stage
def test_each_path_of_the_command_is_a_dep_or_an_out_and_none_is_hidden(stage: str) -> None:
    words = STAGES[stage]["cmd"].split()[3:]
    paths = {word for word in words if not word.startswith("--")}
    data = {dep for dep in deps(stage) if not is_code(dep)} | outs(stage)
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
    return {name.split(".")[0] for ours in reached([file]) for name in imported(ours)}


def test_metrics_and_plots_need_no_torch_and_no_files() -> None:
    for file in ("src/evaluation/metrics.py", "src/evaluation/plot_tables.py"):
        assert not outside(file) & {"torch", "timm", "dvc"}
        assert not imported(file) & {
            "src.core.files",
            "src.images.loader.shards",
            "src.core.params",
        }


def test_train_knows_neither_metrics_nor_plots() -> None:
    assert not reached(["src/train.py"]) & {
        "src/evaluation/metrics.py",
        "src/evaluation/plot_tables.py",
    }


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


def test_origins_have_one_door() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if "origins" not in path.parts:
            names = imported(path.relative_to(ROOT).as_posix())
            door = {f"src.sources.origins.{name}" for name in origins.__all__}
            behind = {name for name in names if name.startswith("src.sources.origins.")}
            assert behind <= door, path


def test_only_models_know_timm() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if "models" not in path.parts:
            names = imported(path.relative_to(ROOT).as_posix())
            assert "timm" not in {name.split(".")[0] for name in names}, path


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


# Names with an underscore of other people's modules that we use all the same: why.
PRIVATE: dict[str, str] = {}
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(path: Path) -> Iterator[str]:
    """Yield the private names that a module takes from libraries and from other objects."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module)) if not module.startswith(("src", "judge")):
                names = *module.split("."), *(alias.name for alias in node.names)
                yield from filter(is_private, names)
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=str(name)) if is_private(name) and name not in NAMED_TUPLE:
                yield name


def test_private_names_of_others_have_a_reason() -> None:
    folders = ("src", "judge", "tools", "studies", "report")
    used = {
        name for f in folders for path in (ROOT / f).rglob("*.py") for name in private_names(path)
    }
    assert used == set(PRIVATE)
