"""The pipeline on a few small images, by any Python -> what each stage wrote."""

import hashlib
import importlib
import logging
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from src.core.cli import run
from tests.emulation.interpreter import environment
from tests.helpers.make_data import make_artifact_folder

ROOT = Path(__file__).parents[2]
# Nine updates, and every part of every stage at least once.
SMALL: Mapping[str, Any] = {
    "download.source": "folder",
    "download.origin": "images",
    "download.images_per_method": 16,
    "shortcuts.max_file_auroc": 1.0,
    "shortcuts.bootstrap_rounds": 20,
    "model.name": "beit3_nano",
    "model.image_size": 32,
    "model.drop_path": 0.1,
    "train.epochs": 1,
    "train.warmup_epochs": 0,
    "train.batch_size": 4,
    "train.clip_norm": 1.0,
    "augment.rotate": 0.3,
    "augment.blur": 0.3,
    "augment.noise": 0.3,
    "augment.brightness_contrast": 0.3,
    "augment.jpeg": 0.3,
    "predict.crops_per_side": 2,
    "predict.knn_images": 20,
    "calibrate.bootstrap_rounds": 20,
    "evaluate.bootstrap_rounds": 20,
    "evaluate.worst_images": 2,
    "gallery.heatmap_cells": 2,
}


def small_run(folder: Path, python: str | Path) -> dict[str, str]:
    """Run all stages in the new folder with `python`; return a digest of what each one wrote."""
    make_artifact_folder(folder / "images", images_per_method=16, size=48)
    shutil.copy(ROOT / "dvc.yaml", folder)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    for name, value in SMALL.items():
        section, key = name.split(".")
        params[section][key] = value
    yaml.dump(params, folder / "params.yaml")
    command = [str(python), "-m", "tests.emulation.small_run"]
    subprocess.run(command, cwd=folder, env=environment(ROOT), check=True)
    return {name: _digest(folder, _outputs(stage)) for name, stage in _stages(folder).items()}


def _stages(folder: Path) -> dict[str, Any]:
    """Return the stages in an order in which they can run."""
    stages: dict[str, Any] = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    makers = {path: name for name, stage in stages.items() for path in _outputs(stage)}
    graph = {
        name: {maker for path, maker in makers.items() if _needs(stage, path)}
        for name, stage in stages.items()
    }
    return {name: stages[name] for name in TopologicalSorter(graph).static_order()}


def _needs(stage: Mapping[str, Any], output: str) -> bool:
    return any(Path(dep).is_relative_to(output) for dep in stage["deps"])


def _outputs(stage: Mapping[str, Any]) -> list[str]:
    found = [output for kind in ("outs", "metrics", "plots") for output in stage.get(kind, [])]
    return [output if isinstance(output, str) else next(iter(output)) for output in found]


def _digest(folder: Path, outputs: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in (folder / output for output in outputs):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """Run the stages of the dvc.yaml in the working folder.

    In one process: on an emulated processor the libraries take a minute to load.
    """
    logger = logging.getLogger("small_run")
    for name, stage in _stages(Path()).items():
        _, _, module, *arguments = stage["cmd"].split()  # python -m src.name path path ...
        for path in (word for word in arguments if "/" in word):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        logger.info("stage %s", name)
        importlib.import_module(module).main(arguments)


if __name__ == "__main__":
    run(main)
