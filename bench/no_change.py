"""What `dvc repro` takes where nothing has changed, against DVC with an empty pipeline."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.results import Figure, Outcome, at_most
from bench.timing import interleaved, medians, ratio, repeats

ROOT = Path(__file__).parents[1]
ROUNDS, FILES_IN_FOLDER = 5, 200


def run(scale: float, folder: Path) -> Outcome:
    """Record this pipeline as if it had run, with stand-ins for its outputs, and repeat it."""
    ours, empty = folder / "ours", folder / "empty"
    copy_pipeline(ours, max(2, round(FILES_IN_FOLDER * scale)))
    empty.mkdir()
    (empty / "dvc.yaml").write_text("stages: {}\n")
    prepare(empty)
    if (printed := dvc(ours, "repro")).count("didn't change, skipping") < 2:
        raise AssertionError(printed)
    costs = interleaved(
        rounds := repeats(ROUNDS, scale),
        {"here": lambda: dvc(ours, "repro"), "empty": lambda: dvc(empty, "repro")},
    )
    against = "dvc repro of an empty pipeline"
    return Outcome(
        [Figure("dvc repro", against, ratio(costs, "here", "empty", "cpu"), at_most(1.5))],
        {
            "files_in_each_folder": max(2, round(FILES_IN_FOLDER * scale)),
            "median": medians(costs),
            "rounds": rounds,
        },
        ("dvc",),
    )


def copy_pipeline(folder: Path, files: int) -> None:
    """Write this pipeline's code and stand-ins for all its outputs, and commit them to DVC."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy2(ROOT / name, folder / name)
    stages = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for stage in stages.values():
        for out in paths(stage.get("outs", [])) + paths(stage.get("metrics", [])):
            write_stand_in(folder / out, files)
    for stage in stages.values():
        for dep in paths(stage["deps"]):
            if not (folder / dep).exists():  # one file of a folder
                write_stand_in(folder / dep, files)
    prepare(folder)
    dvc(folder, "commit", "--force")


def paths(outs: Iterable[Any]) -> list[str]:
    """Return the paths of outputs as dvc.yaml lists them."""
    return [next(iter(out)) if isinstance(out, dict) else out for out in outs]


def write_stand_in(path: Path, files: int) -> None:
    """Write a file, or a folder of `files` if the name has no ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text(f"{path}\n")
        return
    path.mkdir()
    for number in range(files):
        (path / f"{number}.tar").write_text(f"{number}\n")


def prepare(folder: Path) -> None:
    """Make `folder` a repository of Git and DVC."""
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")


def dvc(folder: Path, *arguments: str) -> str:
    """Run DVC in `folder`; return what it printed."""
    done = subprocess.run(
        ["dvc", *arguments],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
        | {"DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"dvc {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout
