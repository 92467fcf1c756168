"""Stage `train`: splits and shards -> the detector of the epoch that validated best."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from src.augment import Augmentation, AugmentParams
from src.command import InputError, run
from src.files import replacing, write_json
from src.images import GridCrops, ImageSet, Request, View, default_workers
from src.models import Detector, ModelParams, build_detector, save_identity
from src.params import load_params
from src.ranks import ranks
from src.schema import FAKE, LABELS, REAL, SPLIT_TABLE, read_table
from src.scoring import fix_arithmetic
from src.training.batch_picture import draw_batch
from src.training.checkpoints import (
    SCRATCH_VARIABLE,
    Checkpoint,
    fingerprint,
    only_trainer,
    scratch_folder,
)
from src.training.initialise import init_from_scratch
from src.training.loop import Epoch, Sets, Training, TrainParams

MANIFEST = "manifest.json"  # of data/raw: the checksums of all shards
_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16"}
_PICTURE_IMAGES = 16
_WHITENING_IMAGES = 512  # with some hundred patches each: plenty for one covariance


class Settings(NamedTuple):
    """The sections of params.yaml that a detector depends on."""

    model: ModelParams
    train: TrainParams
    augment: AugmentParams


class Outputs(NamedTuple):
    """Where the stage writes."""

    weights: Path
    identity: Path
    metrics: Path
    curve: Path
    picture: Path


def train_detector(
    table: pd.DataFrame, root: Path, settings: Settings, outputs: Outputs, scratch: Path
) -> None:
    """Train on the `train` rows of a split table, choose the epoch on its `val` rows, write all.

    `scratch` is the folder of this run alone: if it holds the state of an interrupted one, that
    is taken up, and on success the folder is deleted.

    Raises:
        InputError: a class is missing, the settings do not suit the images, the loss is no longer
            a number, or another process is training beside `scratch`.
    """
    check_classes(table)
    fix_arithmetic(settings.train.threads)
    accelerator = Accelerator(mixed_precision=_ACCELERATE_NAMES[settings.train.precision])
    main_process = accelerator.is_main_process
    with only_trainer(scratch.parent) if main_process else nullcontext():
        detector, sets = prepare(table, root, settings)
        training = Training(detector, sets, settings.train, accelerator, default_workers())
        checkpoint = Checkpoint(scratch)
        if state := checkpoint.load():
            training.load_state_dict(state)
        _check_agreement(training.update, accelerator)
        if main_process:
            _draw_first_batch(training, table, outputs.picture)
        training.run(checkpoint, lambda epochs: write_curve(epochs, outputs.curve))
        if main_process:
            _write(training, outputs)
            checkpoint.delete()


def check_classes(table: pd.DataFrame) -> None:
    """Check that there is something to learn and something to choose the epoch by.

    Raises:
        InputError: `train` or `val` has no image of one class.
    """
    for split in ("train", "val"):
        labels = table.loc[table["split"] == split, "label"]
        for label, name in LABELS.items():
            if not (labels == label).any():
                raise InputError(
                    f"split {split!r} has no {name} image among {len(labels)}: look at section "
                    "'split' of params.yaml (val_fraction, images_per_class) and at its metrics"
                )


def prepare(table: pd.DataFrame, root: Path, settings: Settings) -> tuple[Detector, Sets]:
    """Return the untrained detector and the images for it."""
    model, params = settings.model, settings.train
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    detector = build_detector(model, class_names(train, params.head), params.seed)
    view = detector.identity.view
    if model.from_scratch:
        init_from_scratch(detector, _whitening_images(train, root, view, params.seed), params.seed)
    sets = Sets(
        ImageSet(train, root, Augmentation(settings.augment, view, params.seed)),
        class_targets(train, detector.identity.classes),
        ImageSet(val, root, GridCrops(view, params.val_crops_per_side)),
        val["label"].to_numpy(),
    )
    return detector, sets


def class_names(table: pd.DataFrame, head: str) -> tuple[str, ...]:
    """Return the names of a detector's logits: real, then fake or every generator of `table`."""
    if head == "binary":
        return LABELS[REAL], LABELS[FAKE]
    return LABELS[REAL], *sorted(table.loc[table["label"] == FAKE, "method"].unique())


def class_targets(table: pd.DataFrame, classes: Sequence[str]) -> Tensor:
    """Return the position in `classes` of each image of `table`, shape (images,), int64."""
    names = table["label"].map(LABELS)
    if not set(names) <= set(classes):  # one class per generator
        names = table["method"].where(table["label"] == FAKE, LABELS[REAL])
    positions = {name: position for position, name in enumerate(classes)}
    return torch.tensor([positions[name] for name in names])


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


def _whitening_images(train: pd.DataFrame, root: Path, view: View, seed: int) -> Tensor:
    images = ImageSet(train, root, GridCrops(view, 1))
    rows = np.argsort(ranks(images.keys, seed), kind="stable")[:_WHITENING_IMAGES]
    return images.__getitems__(Request(0, rows.tolist())).images


def _draw_first_batch(training: Training, table: pd.DataFrame, path: Path) -> None:
    request = next(training.order.requests(0))
    rows = request.rows[:_PICTURE_IMAGES]
    batch = training.sets.train.__getitems__(Request(request.epoch, rows))
    shown = table[table["split"] == "train"].iloc[list(rows)]
    draw_batch(batch.images.numpy(), shown["label"].map(LABELS) + "\n" + shown["method"], path)


def _write(training: Training, outputs: Outputs) -> None:
    with replacing(outputs.weights) as temporary:
        save_file(training.best_weights, temporary)
    save_identity(training.detector.identity, outputs.identity)
    best = training.best
    parameters = sum(weight.numel() for weight in training.detector.parameters())
    metrics = {
        "best_epoch": best.epoch,
        "epochs": len(training.history),
        "parameters": parameters,
        "train_images": len(training.sets.train),
        "train_loss": best.train_loss,
        "val_images": len(training.sets.val),
        "val_loss": best.val_loss,
        "val_mcc": best.val_mcc,
        "val_auroc": best.val_auroc,
    }
    write_json({"train": metrics}, outputs.metrics)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the paths on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("splits_csv", "raw", "gate", *Outputs._fields):
        parser.add_argument(name, type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the detector that params.yaml describes."""
    args = parse_args(argv)
    settings = Settings(
        load_params(ModelParams, "model"),
        load_params(TrainParams, "train"),
        load_params(AugmentParams, "augment"),
    )
    if not args.gate.is_file():
        raise InputError(f"{args.gate} is missing: the stage 'shortcuts' has not passed these data")
    table = read_table(args.splits_csv, SPLIT_TABLE)
    inputs = [args.splits_csv, args.raw / MANIFEST]
    if settings.model.weights_file:
        inputs.append(settings.model.weights_file)
    run_name = fingerprint([asdict(section) for section in settings], inputs)
    outputs = Outputs(*(getattr(args, name) for name in Outputs._fields))
    train_detector(table, args.raw, settings, outputs, scratch_folder() / run_name)


if __name__ == "__main__":
    run(main)
