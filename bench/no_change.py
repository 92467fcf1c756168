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
OUTPUTS = ("outs", "metrics", "plots")


def run(scale: float, folder: Path) -> Outcome:
    """Record this pipeline as if it had run, with stand-ins for its outputs, and repeat it.

    DVC reads every dvc.yaml of a repository and its dvc.lock, so the studies cost as well.
    """
    ours, alone, chain, empty = (folder / name for name in ("ours", "alone", "chain", "empty"))
    files = max(2, round(FILES_IN_FOLDER * scale))
    copy_pipeline(ours, files)
    copy_pipeline(alone, files, with_studies=False)
    write_chain(chain, len(read_stages(ours)))
    write_chain(empty, 0)
    if (printed := dvc(ours, "repro")).count("didn't change, skipping") < 2:
        raise AssertionError(printed)
    costs = interleaved(
        rounds := repeats(ROUNDS, scale),
        {
            "here": lambda: dvc(ours, "repro"),
            "without the studies": lambda: dvc(alone, "repro"),
            "as many stages, of one dependency each": lambda: dvc(chain, "repro"),
            "empty": lambda: dvc(empty, "repro"),
        },
    )
    against = "dvc repro of an empty pipeline"
    return Outcome(
        [Figure("dvc repro", against, ratio(costs, "here", "empty", "cpu"), at_most(1.5))],
        {
            "files_in_each_folder": files,
            "median": medians(costs),
            "ratios": {name: ratio(costs, name, "empty", "cpu") for name in costs},
            "rounds": rounds,
        },
        ("dvc", "ruamel.yaml.clib"),
    )


def copy_pipeline(folder: Path, files: int, with_studies: bool = True) -> None:
    """Write this pipeline's code and stand-ins for all its outputs, and commit them to DVC."""
    for name in ("src", "studies", "report") if with_studies else ("src",):
        left_out = shutil.ignore_patterns("__pycache__", "runs", "judged")
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    stages = read_stages(folder)
    for stage in stages.values():
        for out in (path for kind in OUTPUTS for path in paths(stage.get(kind, []))):
            write_stand_in(folder / out, files)
    for stage in stages.values():
        for dep in paths(stage["deps"]):
            if not (folder / dep).exists():  # one file of a folder
                write_stand_in(folder / dep, files)
    prepare(folder)
    dvc(folder, "commit", "--force", "dvc.yaml")


def write_chain(folder: Path, stages: int) -> None:
    """Write a pipeline that ran: each stage copies what the one before it wrote."""
    folder.mkdir()
    cmds = {
        f"stage{number}": {
            "cmd": f"cp {number}.txt {number + 1}.txt",
            "deps": [f"{number}.txt"],
            "outs": [f"{number + 1}.txt"],
        }
        for number in range(stages)
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": cmds}))
    (folder / "0.txt").write_text("0\n")
    prepare(folder)
    dvc(folder, "repro")


def read_stages(folder: Path) -> dict[str, Any]:
    """Return the stages of the dvc.yaml in `folder`."""
    stages: dict[str, Any] = yaml.safe_load((folder / "dvc.yaml").read_text("utf-8"))["stages"]
    return stages


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
