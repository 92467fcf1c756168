"""Stage `train`: splits and shards -> the detector of the epoch that validated best."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from src.core.cli import InputError, run
from src.core.files import replacing, write_json
from src.core.hashing import ranks
from src.core.params import load_params
from src.core.tables import LABELS, read_table
from src.dataset.columns import SPLIT_TABLE
from src.images.loader import Request, default_workers
from src.images.pixel_cache import kept_pixels, usable_space
from src.inference.scorer import prepare_torch
from src.models.shared.blueprint import ClosedForm, ModelParams, find_blueprint
from src.models.shared.detector import save_config
from src.models.shared.pretrained import StateDict
from src.training.augmentation import AugmentParams
from src.training.batch_preview import draw_batch
from src.training.checkpoints import (
    SCRATCH_VARIABLE,
    Checkpoint,
    fingerprint,
    only_trainer,
    scratch_folder,
)
from src.training.closed_form import Solving
from src.training.config import Epoch, Sets, TrainParams
from src.training.launch import launch_processes
from src.training.loop import Training
from src.training.setup import Settings, check_classes, prepare
from src.training.trainer import Fit

MANIFEST = "manifest.json"  # of data/raw: the checksums of all shards
_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
_PICTURE_IMAGES = 16


class Outputs(NamedTuple):
    """Where the stage writes."""

    weights: Path
    config: Path
    metrics: Path
    curve: Path
    picture: Path


def train_detector(
    table: pd.DataFrame,
    root: Path,
    weights: StateDict,
    settings: Settings,
    outputs: Outputs,
    scratch: Path,
) -> None:
    """Train on the `train` rows of a split table, choose the epoch on its `val` rows, write all.

    The detector starts from `weights`, if there are any. `scratch` is the folder of this run
    alone: if it holds the state of an interrupted one, that is taken up, and on success the folder
    is deleted.

    Raises:
        InputError: a class is missing, the settings do not suit the images or the machine, the
            loss is no longer a number, or another process is training beside `scratch`.
    """
    check_classes(table)
    accelerator = _accelerate(settings.train.precision)
    prepare_torch(settings.train.threads)  # after accelerate, which has a number of its own
    main_process = accelerator.is_main_process
    with ExitStack() as stack:
        if main_process:
            stack.enter_context(only_trainer(scratch.parent))
        # What is looked at once is not worth keeping.
        space = usable_space() if settings.train.epochs > 1 else 0
        kept = stack.enter_context(kept_pixels(scratch.parent, len(table), space, accelerator))
        detector, sets = prepare(table, root, settings, weights, kept)
        way = Solving if isinstance(detector.network, ClosedForm) else Training
        training: Fit = way(detector, sets, settings.train, accelerator, default_workers())
        checkpoint = Checkpoint(scratch)
        if state := checkpoint.load():
            training.load_state_dict(state)
        _check_agreement(training.update, accelerator)
        if main_process:
            _draw_images(sets, table, settings.train.seed, outputs.picture)
        training.run(checkpoint, lambda _: _report(training, outputs))
        if main_process:
            _write(training, outputs)
            checkpoint.delete()


def _accelerate(precision: str) -> Accelerator:
    try:
        accelerator = Accelerator(mixed_precision=_ACCELERATE_NAMES[precision])
    except ValueError as error:  # bf16 on a GPU from before it
        raise InputError(f"train.precision = {precision!r}: {error}") from error
    if precision == "fp16" and not accelerator.scaler:
        raise InputError("train.precision = 'fp16' needs a GPU: choose fp32 or bf16")
    return accelerator


def write_curve(epochs: Sequence[Epoch], path: Path) -> None:
    """Write one row per epoch; the whole file each time, so that a resumed run repeats none."""
    with replacing(path) as temporary:
        pd.DataFrame(map(asdict, epochs)).to_csv(
            temporary, index=False, float_format="%.6g", lineterminator="\n"
        )


def _check_agreement(update: int, accelerator: Accelerator) -> None:
    updates = accelerator.gather(torch.tensor([update], device=accelerator.device)).tolist()
    if len(set(updates)) > 1:
        raise InputError(
            f"the processes would resume at updates {updates}: set {SCRATCH_VARIABLE} to a folder "
            "that all machines share"
        )


def _draw_images(sets: Sets, table: pd.DataFrame, seed: int, path: Path) -> None:
    images = sets.train
    rows = np.argsort(ranks(ranks(images.keys, seed), 0), kind="stable")[:_PICTURE_IMAGES]
    batch = images.__getitems__(Request(0, rows.tolist()))
    shown = table[table["split"] == "train"].iloc[rows]
    draw_batch(batch.images.numpy(), shown["label"].map(LABELS) + "\n" + shown["method"], path)


def _report(training: Fit, outputs: Outputs) -> None:
    """Write what there is to see of a run while it goes on, and in the end."""
    if not training.accelerator.is_main_process:
        return
    write_curve(training.history, outputs.curve)
    best = training.best
    metrics = {
        "best_epoch": best.epoch,
        "epochs": len(training.history),
        "images_seen": training.images_seen,
        "parameters": sum(weight.numel() for weight in training.detector.parameters()),
        "train_images": len(training.sets.train),
        "train_loss": best.train_loss,
        "val_images": len(training.sets.val),
        "val_loss": best.val_loss,
        "val_mcc": best.val_mcc,
        "val_auroc": best.val_auroc,
    }
    write_json({"train": metrics}, outputs.metrics)


def _write(training: Fit, outputs: Outputs) -> None:
    with replacing(outputs.weights) as temporary:
        save_file(training.best_weights, temporary)
    save_config(training.detector.config, outputs.config)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the paths on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("splits_csv", "raw", "gate", "start", *Outputs._fields):
        parser.add_argument(name, type=Path)
    return parser.parse_args(argv)


def read_settings() -> Settings:
    """Return the sections of params.yaml.

    Raises:
        InputError: one is not as expected.
    """
    return Settings(
        load_params(ModelParams, "model"),
        load_params(TrainParams, "train"),
        load_params(AugmentParams, "augment"),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train the detector that params.yaml describes."""
    args = parse_args(argv)
    settings = read_settings()
    if not args.gate.is_file():
        raise InputError(f"{args.gate} is missing: the stage 'shortcuts' has not passed these data")
    table = read_table(args.splits_csv, SPLIT_TABLE)
    find_blueprint(settings.model.name)  # its code belongs to the fingerprint
    inputs = [args.splits_csv, args.raw / MANIFEST, args.start]
    run_name = fingerprint([asdict(section) for section in settings], inputs)
    outputs = Outputs(*(getattr(args, name) for name in Outputs._fields))
    weights = load_file(args.start)
    train_detector(table, args.raw, weights, settings, outputs, scratch_folder() / run_name)


def launch() -> None:
    """Train in as many processes as the environment asks for (see training.launch)."""
    read_settings()  # what is wrong there is said once, not by every process
    launch_processes("src.train", sys.argv[1:])
    main()


if __name__ == "__main__":
    run(launch)
