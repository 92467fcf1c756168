"""The architecture, checked: who imports what, and that dvc.yaml says exactly that."""

import ast
import importlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml

from src.core.params import load_params
from src.models.shared.blueprint import names
from src.sources import origins
from tests.helpers import ROOT
from tools.deps import (
    CHOSEN,
    imported,
    is_code,
    module_file,
    pipeline_files,
    reached,
    rewritten,
)

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


def test_metrics_are_few_and_flat() -> None:
    """Each is a column of `dvc exp show`; long documents are in metrics/, but not metrics."""
    leaves = 0
    for path in {path for entry in STAGES.values() for path in paths_in(entry, "metrics")}:
        document = json.loads((ROOT / path).read_text())
        rows = document.values() if Path(path).stem in document else [document]
        assert not [value for row in rows for value in row.values() if isinstance(value, dict)]
        leaves += sum(map(len, rows))
    assert leaves <= 40


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


def test_only_models_know_timm() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if "models" not in path.parts:
            names = imported(path.relative_to(ROOT).as_posix())
            assert "timm" not in {name.split(".")[0] for name in names}, path


# Lowest first: a room knows those below it, and of its own floor itself alone.
FLOORS: list[tuple[str, ...]] = [
    ("src/core",),
    ("src/images", "src/reporting"),
    ("src/evaluation",),
    ("src/dataset", "src/models", "src/sources"),
    ("src/inference", "src/probes", "src/splitting"),
    ("src/training", "src/explanation", "src/exporting"),
    ("src",),  # the stages
    ("judge", "tools", "report"),
    ("studies",),  # they judge as a user does
    ("bench",),
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TOPS = ("src", "judge", "tools", "studies", "report", "bench")
FILES = sorted(p.relative_to(ROOT).as_posix() for top in TOPS for p in (ROOT / top).rglob("*.py"))


def room(file: str) -> str:
    parts = Path(file).parts
    return "/".join(parts[:2]) if parts[0] == "src" and len(parts) > 2 else parts[0]


def test_a_module_imports_from_its_room_and_from_floors_below_and_no_stage() -> None:
    for file in FILES:
        found = {target for name in imported(file) if (target := module_file(name))} - {file}
        others = {target for target in found if room(target) != room(file)} - {"src/__init__.py"}
        assert not {other for other in others if FLOOR_OF[room(other)] >= FLOOR_OF[room(file)]}, (
            file
        )
        assert room(file) != "src" or not found & STAGE_FILES, file


def test_origins_have_one_door() -> None:
    door = {f"src.sources.origins.{name}" for name in origins.__all__}
    for file in FILES:
        if not file.startswith(("src/sources/origins/", "bench/")):  # bench measures the parts
            behind = {name for name in imported(file) if name.startswith("src.sources.origins.")}
            assert behind <= door, file


# DVC promises `dvc.api` alone, which reads files and parameters. A new release may change these.
DVC_INTERNALS = {
    "dvc.data_cloud.Remote": "a remote's file system and path",
    "dvc.exceptions.DvcException": "what DVC refuses, in one line",
    "dvc.output.Output": "the hash, cache and remote of an output",
    "dvc.repo.Repo": "configuration, pipeline, cache and remotes of a checkout",
    "dvc.repo.lock_repo": "make gate decides under DVC's own lock",
    "dvc.repo.reproduce.get_active_graph": "make gate: the order of a run",
    "dvc.repo.reproduce.plan_repro": "make gate: the stages of a run",
    "dvc.scm.SCMError": "studies.compare: a revision that is unknown",
    "dvc_data.hashfile.db.HashFileDB": "where a cache or remote keeps an object",
    "dvc_data.hashfile.hash_info.HashInfo": "the hash of a file in a listing",
    "dvc_data.hashfile.tree.Tree": "the listing of a directory",
    "dvc_objects.fs.generic.transfer": "links from the cache, as the configuration wants them",
}


def test_what_is_used_of_dvc_stands_in_one_list() -> None:
    found: set[str] = set()
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and re.match(r"dvc(_|\.|$)", node.module or ""):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert found == set(DVC_INTERNALS)


# `file: name` of what other packages keep to themselves, and why we use it all the same.
PRIVATE: dict[str, str] = {
    "src/core/cli.py: os._exit": "how Ctrl-C ends what is half imported; public, likewise",
    "src/models/shared/products.py: torch.ops.mkldnn._linear_pointwise": "oneDNN's product of "
    "matrices, which torch.compile calls by that name",
    "src/training/launch.py: os._exit": "how a forked process ends; public, whatever it looks like",
}
NAMEDTUPLE = {"_fields", "_asdict", "_replace", "_make"}  # public, whatever they look like


def private_names(file: str) -> Iterator[str]:
    """Yield the names with an underscore that `file` takes from modules that are not in it."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if re.search(r"(^|\.)_(?!_)", f"{node.module}.{node.names[0].name}"):
                yield node.module
        elif isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr):
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls") and node.attr not in NAMEDTUPLE:
                yield f"{owner}.{node.attr}"


def test_what_others_keep_to_themselves_is_used_where_a_reason_is_given() -> None:
    files = [file for file in FILES if not file.startswith("bench/")]
    found = {f"{file}: {name}" for file in files for name in private_names(file)}
    assert found == set(PRIVATE)


def test_code_deps_stay_few() -> None:
    counts = {stage: sum(map(is_code, deps(stage))) for stage in STAGES}
    assert counts["train"] <= 10
    assert sum(counts.values()) <= 99


# Being shortened; nothing is added here.
TOO_LONG = {
    "bench/ingest.py",
    "bench/predict.py:run",
    "judge/own_images.py",
    "src/models/shared/hf_backbone.py:fetch",
    "src/sources/origins/zips.py",
    "src/training/run.py:train_detector",
    "src/training/loop.py:__init__",
}


def test_a_module_can_be_read_in_one_go() -> None:
    lines = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {file for file, count in lines.items() if count > 300} - TOO_LONG


def lengths(file: str) -> list[tuple[str, int]]:
    """Return name and lines of each function of `file`."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in found]


def test_functions_fit_a_screen_and_most_are_short() -> None:
    found = [(f"{file}:{name}", lines) for file in FILES for name, lines in lengths(file)]
    assert not {name for name, lines in found if lines > 40} - TOO_LONG
    assert median(lines for _, lines in found) <= 9
