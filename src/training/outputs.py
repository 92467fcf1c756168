"""A run's history and its best weights -> the files of the stage `train`."""

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from src.core import processor
from src.core.files import replacing, write_json
from src.core.hashing import ranks
from src.core.tables import LABELS
from src.images.loader import ImageSet, Request
from src.models.shared.detector import save_config
from src.models.shared.pretrained import save_weights
from src.training.batch_preview import draw_batch
from src.training.trainer import Trainer

_PREVIEW_IMAGES = 16


class Outputs(NamedTuple):
    """Where the stage writes."""

    weights: Path
    config: Path
    metrics: Path
    curve: Path
    picture: Path


def write_preview(images: ImageSet, table: pd.DataFrame, seed: int, path: Path) -> None:
    """Draw some training images of `table` as the network sees them in the first epoch."""
    rows = np.argsort(ranks(ranks(images.keys, seed), 0), kind="stable")[:_PREVIEW_IMAGES]
    batch = images.batch(Request(0, rows.tolist()))
    shown = table[table["split"] == "train"].iloc[rows]
    draw_batch(batch.images.numpy(), shown["label"].map(LABELS) + "\n" + shown["method"], path)


def write_metrics(trainer: Trainer, outputs: Outputs) -> None:
    """Write the curve of all epochs so far and the metrics of the one whose weights are kept."""
    with replacing(outputs.curve) as temporary:
        pd.DataFrame(map(asdict, trainer.history)).to_csv(
            temporary, index=False, float_format="%.6g", lineterminator="\n"
        )
    kept = trainer.kept
    metrics = {
        "kept_epoch": kept.epoch,
        "epochs": len(trainer.history),
        "exact": is_exact(trainer),
        "images_seen": trainer.images_seen,
        "parameters": sum(weight.numel() for weight in trainer.detector.parameters()),
        "train_images": len(trainer.data.train),
        "train_loss": kept.train_loss,
        "val_images": len(trainer.data.val),
        "val_loss": kept.val_loss,
        "val_mcc": kept.val_mcc,
        "val_auroc": kept.val_auroc,
    }
    write_json({"train": metrics}, outputs.metrics)


def is_exact(trainer: Trainer) -> bool:
    """Return whether any x86-64 processor with AVX2 gives these weights to the bit."""
    # torch.compile makes code for the processor at hand, with whatever compiler is there.
    on_cpu = trainer.accelerator.device.type == "cpu"
    return processor.is_exact() and on_cpu and not trainer.params.compile


def write_detector(trainer: Trainer, outputs: Outputs) -> None:
    """Write the weights that are kept, and what rebuilding the detector takes beside."""
    save_weights(trainer.weights, outputs.weights)
    save_config(trainer.detector.config, outputs.config)
