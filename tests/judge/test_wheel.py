"""`judge` alone, installed as a wheel, without the repository and without PyTorch."""

import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, packages_distributions
from pathlib import Path

import pytest

from judge import Judge
from tests.helpers import ROOT

pytestmark = pytest.mark.slow
# Imported by functions that judging never calls: they check params.yaml.
NEVER_CALLED = {"jsonschema"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, as pip would install it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: a build leaves files behind
    for name in ("judge", "src"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", ".."], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_judges_as_the_repository_does(installed: Path, trained: Path, images: Path) -> None:
    shutil.copytree(trained / "exported", images.parent / "models")
    code = (
        "import sys, runpy; sys.argv[1:] = ['--runtime', 'onnx', '--json', 'images']\n"
        "try: runpy.run_module('judge', run_name='__main__')\n"
        "finally: print(sorted({'torch', 'timm', 'src'} & set(sys.modules)), file=sys.stderr)"
    )
    done = run(installed, images.parent, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("[]\n")
    document = json.loads(done.stdout)
    judge = Judge.load(trained / "exported")
    assert document["trained_on"] == judge.trained_on
    for found in document["images"]:
        assert found == judge(found["path"])._asdict()


def test_what_takes_the_repository_says_so(installed: Path, trained: Path, tmp_path: Path) -> None:
    models = str(trained / "models")
    done = run(installed, tmp_path, "-m", "judge", "x.jpg", "--runtime", "torch")
    assert done.stderr.startswith("error: models/detector.safetensors is missing: fetch")
    (tmp_path / "x.jpg").touch()
    done = run(installed, tmp_path, "-m", "judge", "x.jpg", "--models", models)
    assert done.stderr.startswith("error: runtime torch: no module judge.torch_runtime: it takes")


def imported(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def test_it_names_every_package_that_it_imports(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info")
    wanted = Distribution.at(metadata).requires or []
    named = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in wanted}
    distributions = packages_distributions()
    for name in set(imported(installed)) - set(sys.stdlib_module_names) - NEVER_CALLED - {"judge"}:
        found = {one.lower().replace("_", "-") for one in distributions[name]}
        assert found & named, name
