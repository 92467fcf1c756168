"""make deps: write what each stage's module imports among the `deps` of its stage."""

import argparse
import ast
import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from src.core.cli import InputError, run
from src.core.files import replacing

logger = logging.getLogger("deps")

ROOT = Path(__file__).parents[1]
PIPELINES = ("dvc.yaml", "report/dvc.yaml", "studies/*/dvc.yaml")
OURS = ("src.", "studies.", "report.")
# Data sets and detectors are found by name. A stage that can look one up depends on all of
# `src/sources`, and of `src/models` on what all share and on the chosen file, filled in by DVC.
SOURCES, FINDS_SOURCE = "src/sources", "src/sources/shared/registry.py"
MODELS, FINDS_MODEL = "src/models", "src/models/shared/blueprint.py"
CHOSEN = f"{MODELS}/${{model.name}}.py"


def module_file(name: str) -> str | None:
    """Return our file with the module of this dotted name; None if it computes nothing."""
    path = Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / candidate).is_file():
            return None if _is_docstring_alone(candidate.as_posix()) else candidate.as_posix()
    return None


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def _is_docstring_alone(file: str) -> bool:
    return len(_tree(file).body) <= 1


@cache
def imported(file: str) -> frozenset[str]:
    """Return the modules that `file` imports, by dotted name, wherever in it the import stands."""
    # Python runs the `__init__.py` of every package above a module first.
    names = {parent.as_posix().replace("/", ".") for parent in list(Path(file).parents)[:-1]}
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def reached(files: Iterable[str]) -> set[str]:
    """Return our files that any of `files` imports, directly or not, and themselves."""
    found = set(files)
    queue = list(found)
    while queue:
        for name in imported(queue.pop()):
            target = module_file(name) if name.startswith(OURS) else None
            if target and target not in found:
                found.add(target)
                queue.append(target)
    return found


def code_deps(module: str) -> set[str]:
    """Return the code that a stage running `python -m module` depends on, as in dvc.yaml.

    A folder stands for its files where the stage reaches all of them.
    """
    file = module_file(module)
    assert file, f"there is no {module}"
    files = reached([file])
    if FINDS_SOURCE in files:
        files |= reached(_modules(SOURCES))
    if FINDS_MODEL in files:
        files |= reached(_modules(f"{MODELS}/shared"))
        # DVC stops where a dep is missing: `weights` runs first and refuses a wrong name in words.
        files |= {CHOSEN} if module != "src.weights" else set()
    return collapsed(files)


def _modules(folder: str) -> set[str]:
    """Return our files with code in `folder` and below."""
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))
    return {file for file in files if not _is_docstring_alone(file)}


def collapsed(files: Iterable[str]) -> set[str]:
    """Return `files`, with a folder in place of its files where all of them are there."""
    left = set(files)
    found: set[str] = set()
    folders = {parent.as_posix() for file in left for parent in list(Path(file).parents)[:-2]}
    for folder in sorted(filter(_holds_code_alone, folders), key=len):  # the outermost first
        inside = _modules(folder)
        if inside and inside <= left:
            found.add(folder)
            left -= inside
    return found | left


def is_code(dep: str) -> bool:
    """Whether a dep is one of our modules, or a folder of them."""
    return dep.endswith(".py") or _holds_code_alone(dep)


def _holds_code_alone(folder: str) -> bool:
    return folder.startswith(("src/", "studies/shared"))  # a study's own holds its results too


def rewritten(text: str) -> str:
    """Return the text of a dvc.yaml with the code that its stages depend on; all else as it is.

    Raises:
        InputError: a stage that runs one of our modules has no `deps`.
    """
    lines = text.splitlines()
    for name, stage in reversed(list(YAML().load(text)["stages"].items())):
        command = stage["cmd"].split()
        if command[:2] != ["python", "-m"]:
            continue
        if not stage.get("deps"):
            raise InputError(f"stage {name!r} has no deps: name the data that it reads")
        places = {dep: stage["deps"].lc.item(place) for place, dep in enumerate(stage["deps"])}
        margin = " " * (next(column for _, column in places.values()) - len("- "))
        new = {dep: f"{margin}- {dep}" for dep in code_deps(command[2])}
        new |= {dep: lines[line] for dep, (line, _) in places.items() if not is_code(dep)}
        first, last = (choose(line for line, _ in places.values()) for choose in (min, max))
        lines[first : last + 1] = [new[dep] for dep in sorted(new)]
    return "\n".join(lines) + "\n"


def pipeline_files() -> list[Path]:
    """Return every dvc.yaml."""
    return sorted(path for pattern in PIPELINES for path in ROOT.glob(pattern))


def main(argv: Sequence[str] | None = None) -> None:
    """Rewrite every dvc.yaml whose deps are not the imports."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    for path in pipeline_files():
        text = path.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            with replacing(path) as temporary:
                temporary.write_text(new, encoding="utf-8")
            logger.info("%s: written anew; see git diff", path.relative_to(ROOT))


if __name__ == "__main__":
    run(main)
