"""The pipeline on a few small images: each stage, and what is done with the trained detector."""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from judge.command_line import main as judge
from src.training.checkpoints import SCRATCH_VARIABLE
from tests.emulation.parts import Part
from tests.helpers import ROOT
from tests.helpers.make_data import make_artifact_folder

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
    "train.shares": 2,
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


JUDGED = ("images/ffhq/images/img000000.jpg", "images/glide/images/img000000.jpg")


def prepare(folder: Path) -> None:
    """Make the folder of a small run: images, parameters, stages."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "images", ignore_errors=True)
    make_artifact_folder(folder / "images", images_per_method=16, size=48)
    shutil.copy(ROOT / "dvc.yaml", folder)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    for name, value in SMALL.items():
        section, key = name.split(".")
        params[section][key] = value
    yaml.dump(params, folder / "params.yaml")


def stage(name: str) -> Iterator[bytes]:
    """Run a stage; yield what it wrote."""
    module, arguments = _command(name)
    for path in (word for word in arguments if "/" in word):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module(module).main(arguments)
    yield from _files(map(Path, _outputs(_stages()[name])))


def judged(runtime: str) -> Iterator[bytes]:
    """Judge two images with the detector of the small run; yield verdicts and heat-maps."""
    folder = Path(f"judged-{runtime}")
    output, heatmaps = folder / "verdicts.csv", folder / "heatmaps"
    heatmaps.mkdir(parents=True, exist_ok=True)
    options = f"--models models --runtime {runtime} --heatmap-cells 2 --heatmap {heatmaps}"
    judge([*JUDGED, *options.split(), "--output", str(output), "--quiet"])
    yield from _files([folder])


def shared() -> Iterator[bytes]:
    """Train anew in two processes, each with its share of a batch; yield the weights."""
    module, arguments = _command("train")
    made, folder = _outputs(_stages()["train"]), Path("shared")  # beside what the stage wrote
    paths = [str(folder / word) if word in made else word for word in arguments]
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        variables = {**os.environ, SCRATCH_VARIABLE: scratch}  # not resumed from stage `train`
        subprocess.run([sys.executable, "-m", module, *paths], check=True, env=variables)
    yield from _files([folder / "models/detector.safetensors"])


def _command(name: str) -> tuple[str, list[str]]:
    _, _, module, *arguments = _stages()[name]["cmd"].split()  # python -m src.name path path ...
    return module, arguments


def _stages() -> dict[str, Any]:
    """Return the stages in an order in which they can run."""
    stages: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
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


def _files(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            yield f"{file}\0".encode()
            yield file.read_bytes()


STAGES: Mapping[str, Part] = {f"stage `{name}`": partial(stage, name) for name in _stages()}
USES: Mapping[str, Part] = {
    f"judge, heat-map: {runtime}": partial(judged, runtime) for runtime in ("torch", "onnx")
}
SHARES: Mapping[str, Part] = {"stage `train` in two shares": shared}
