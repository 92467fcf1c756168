"""A split table, its images and the parameters -> a trained detector."""

import logging
from contextlib import ExitStack, closing
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator

from src.core.cli import InputError
from src.images.loader import default_workers
from src.images.pixel_cache import PixelCache, usable_space
from src.inference.scorer import prepare_torch
from src.models.shared.blueprint import FrozenNetwork
from src.models.shared.detector import Detector
from src.models.shared.pretrained import StateDict
from src.training.checkpoints import SCRATCH_VARIABLE, Checkpoint, only_trainer
from src.training.closed_form import ClosedFormTrainer
from src.training.config import TrainingData, TrainParams
from src.training.loop import GradientTrainer
from src.training.outputs import Outputs, write_detector, write_metrics, write_preview
from src.training.setup import Settings, check_classes, prepare
from src.training.trainer import Trainer

logger = logging.getLogger(__name__)

_ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


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
    alone: if it holds the state of an interrupted or a finished one, that is resumed.

    Raises:
        InputError: a class is missing, the settings do not suit the images or the machine, the
            loss is no longer a number, or another process is training beside `scratch`.
    """
    check_classes(table)
    accelerator = _accelerate(settings.train.precision)
    prepare_torch(settings.train.threads)  # after accelerate, which has a number of its own
    main_process = accelerator.is_main_process
    checkpoint = Checkpoint(scratch)
    with ExitStack() as stack:
        if main_process:
            stack.enter_context(only_trainer(scratch.parent))
            checkpoint.remove_finished()
        kept = None
        if settings.train.epochs > 1 and (space := usable_space()):
            kept = stack.enter_context(closing(PixelCache(scratch.parent, len(table), space)))
        detector, data = prepare(table, root, settings, weights, kept)
        trainer = build_trainer(detector, data, settings.train, accelerator, default_workers())
        if state := checkpoint.load():
            trainer.load_state_dict(state)
            logger.info("resumed at update %d; to train anew delete %s", trainer.update, scratch)
        _check_agreement(trainer.update, accelerator)
        if main_process:
            write_preview(data.train, table, settings.train.seed, outputs.picture)
            trainer.run(checkpoint, lambda _: write_metrics(trainer, outputs))
            write_metrics(trainer, outputs)  # a run that was finished before reports no epoch
            write_detector(trainer, outputs)
            checkpoint.finish()
        else:
            trainer.run(checkpoint, lambda _: None)


def build_trainer(
    detector: Detector,
    data: TrainingData,
    params: TrainParams,
    accelerator: Accelerator,
    workers: int,
) -> Trainer:
    """Return the trainer that suits the network of `detector`.

    Raises:
        InputError: the parameters do not suit the detector, the images or the machine.
    """
    is_frozen = isinstance(detector.network, FrozenNetwork)
    trainer = ClosedFormTrainer if is_frozen else GradientTrainer
    return trainer(detector, data, params, accelerator, workers)


def _accelerate(precision: str) -> Accelerator:
    try:
        accelerator = Accelerator(mixed_precision=_ACCELERATE_NAMES[precision])
    except ValueError as error:  # bf16 on a GPU from before it
        raise InputError(f"train.precision = {precision!r}: {error}") from error
    if precision == "fp16" and not accelerator.scaler:
        raise InputError("train.precision = 'fp16' needs a GPU: choose fp32 or bf16")
    return accelerator


def _check_agreement(update: int, accelerator: Accelerator) -> None:
    updates = accelerator.gather(torch.tensor([update], device=accelerator.device)).tolist()
    if len(set(updates)) > 1:
        raise InputError(
            f"the processes would resume at updates {updates}: set {SCRATCH_VARIABLE} to a folder "
            "that all machines share"
        )
