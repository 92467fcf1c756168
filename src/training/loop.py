"""The training loop: batches in a fixed order, exact to the bit after any interruption."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from src.command import InputError
from src.images import Batch, ImageSet, build_loader
from src.models import Detector, StateDict, parameter_groups
from src.params import STRICT
from src.scoring import Scorer
from src.training.checkpoints import Checkpoint
from src.training.optim import Schedule, build_average, build_optimizer, set_learning_rate
from src.training.order import Order
from src.training.validation import IntArray, validate

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0  # what a crash can cost at most, beside the start-up


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class TrainParams:
    """Section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    epochs: Annotated[int, Field(gt=0)]
    patience: Annotated[int, Field(gt=0)]  # epochs without a better validation MCC, then stop
    batch_size: Annotated[int, Field(gt=0)]  # images per update, over all processes
    accumulation: Annotated[int, Field(gt=0)]  # micro-batches that a process makes of its share
    learning_rate: Annotated[float, Field(gt=0)]  # peak, after warm-up
    # The batch that `learning_rate` is meant for: other batches scale it linearly.
    learning_rate_batch: Annotated[int, Field(gt=0)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    beta2: Annotated[float, Field(gt=0, lt=1)]  # AdamW's memory of squared gradients
    weight_decay: Annotated[float, Field(ge=0)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # of the rate, from layer to layer below
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Annotated[float, Field(ge=0)]  # of the gradient; 0: no clipping
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # of the averaged weights; 0: no average
    head: Literal["binary", "multiclass"]  # multiclass: one class per generator beside real
    precision: Literal["fp32", "bf16"]
    val_crops_per_side: Annotated[int, Field(gt=0)]  # see images.GridCrops
    threads: Annotated[int, Field(gt=0)]  # of the CPU: their number changes the last bits


@dataclass(frozen=True)
class Sets:
    """The images to learn from and those to choose the best epoch with."""

    train: ImageSet
    targets: Tensor  # (train images,), int64: position in the detector's classes
    val: ImageSet
    val_labels: IntArray  # (val images,), REAL or FAKE


@dataclass(frozen=True)
class Epoch:
    """One row of plots/training.csv."""

    epoch: int  # from 1
    learning_rate: float  # of the last update
    train_loss: float  # what is minimised, label smoothing included
    val_loss: float
    val_mcc: float
    val_auroc: float

    def beats(self, other: "Epoch") -> bool:
        """Return whether validation went better: by MCC, at equal MCC by loss."""
        return (self.val_mcc, -self.val_loss) > (other.val_mcc, -other.val_loss)


class Training:
    """A run that can be saved after any update and taken up again."""

    def __init__(
        self,
        detector: Detector,
        sets: Sets,
        params: TrainParams,
        accelerator: Accelerator,
        workers: int,
    ) -> None:
        """Prepare everything for the first update; `detector` is trained in place.

        Raises:
            InputError: the batch size does not suit the images or the number of processes.
        """
        self.sets, self.params, self.accelerator = sets, params, accelerator
        self.workers = workers
        self.order = Order(
            sets.train.keys,
            params.seed,
            params.epochs,
            params.batch_size,
            params.accumulation,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.updates = params.epochs * self.order.updates_per_epoch
        self.schedule = Schedule(
            params.learning_rate * params.batch_size / params.learning_rate_batch,
            self.updates,
            round(params.warmup_epochs * self.order.updates_per_epoch),
        )
        self.detector = detector.to(accelerator.device)
        groups = parameter_groups(detector, params.weight_decay, params.layer_decay)
        self.average = build_average(detector, params.ema_decay) if params.ema_decay else None
        self.model, self.optimizer = accelerator.prepare(
            detector, build_optimizer(groups, params.beta2)
        )
        self.score = Scorer(sets.val, params.batch_size, accelerator, workers)
        self.update = 0
        self.loss_sum = 0.0  # over the updates of the unfinished epoch
        self.history: list[Epoch] = []
        self.best_weights: StateDict = {}

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept."""
        best = self.history[0]
        for epoch in self.history[1:]:
            best = epoch if epoch.beats(best) else best
        return best

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` brought nothing better."""
        done = len(self.history)
        patient = done == 0 or done - self.best.epoch < self.params.patience
        return done == self.params.epochs or not patient

    def run(self, checkpoint: Checkpoint, report: Callable[[Sequence[Epoch]], None]) -> None:
        """Train to the end, saving to `checkpoint`, calling `report` after every epoch.

        Raises:
            InputError: the loss is no longer a number; the message names the images.
        """
        requests = self.order.requests(self.update)
        pin = self.accelerator.device.type == "cuda"
        batches = iter(build_loader(self.sets.train, requests, self.workers, pin))
        saved = time.monotonic()
        with self._progress_bar() as bar:
            while not self.finished:
                loss = self._update(list(islice(batches, self.params.accumulation)))
                bar.update(self.params.batch_size)
                bar.set_postfix({"loss": f"{loss:.3f}", **self._last_validation()}, refresh=False)
                ends_epoch = self.update % self.order.updates_per_epoch == 0
                if ends_epoch:
                    self._finish_epoch()
                    report(self.history)
                if ends_epoch or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(checkpoint)
                    saved = time.monotonic()

    def _update(self, batches: Sequence[Batch]) -> float:
        """Make one step of the optimiser; return the loss, averaged over all processes."""
        rate = self.schedule(self.update)
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        losses = []
        for part, batch in enumerate(batches):
            self._seed(part)
            last = part == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self._loss(batch) / len(batches)
                self.accelerator.backward(loss)
            losses.append(loss.detach())
        mean = float(self.accelerator.reduce(torch.stack(losses).sum(), "mean"))
        if not np.isfinite(mean):
            raise InputError(self._explain(mean, batches))
        if self.params.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.params.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update_parameters(self.detector)
        self.update += 1
        self.loss_sum += mean
        return mean

    def _loss(self, batch: Batch) -> Tensor:
        device = self.accelerator.device
        logits = self.model(batch.images.to(device, non_blocking=True))
        targets = self.sets.targets[batch.rows].to(device)
        return cross_entropy(logits, targets, label_smoothing=self.params.label_smoothing)

    def _seed(self, part: int) -> None:
        # Only drop path draws here; seeded like this, it does not depend on what ran before.
        place = f"{self.params.seed}/{self.update}/{part}/{self.accelerator.process_index}"
        digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "big") >> 1)

    def _finish_epoch(self) -> None:
        model = self.average.module if self.average else self.detector
        assert isinstance(model, Detector)
        logits = self.score(model)
        if not logits.isfinite().all():
            raise InputError(
                f"logits of validation images at epoch {len(self.history) + 1} are no numbers: "
                "lower train.learning_rate or set train.clip_norm"
            )
        figures = validate(logits, self.sets.val_labels)
        epoch = Epoch(
            epoch=len(self.history) + 1,
            learning_rate=self.schedule(self.update - 1),
            train_loss=self.loss_sum / self.order.updates_per_epoch,
            **figures,
        )
        self.history.append(epoch)
        self.loss_sum = 0.0
        if self.best is epoch:
            weights = model.network.state_dict()
            self.best_weights = {name: value.cpu().clone() for name, value in weights.items()}
        if self.accelerator.is_main_process:
            logger.info(
                "epoch %d of %d: train loss %.4f, validation loss %.4f, MCC %.3f, AUROC %.3f",
                *(epoch.epoch, self.params.epochs, epoch.train_loss),
                *(epoch.val_loss, epoch.val_mcc, epoch.val_auroc),
            )

    def _save(self, checkpoint: Checkpoint) -> None:
        if self.accelerator.is_main_process:
            checkpoint.save(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on."""
        return {
            "update": self.update,
            "loss_sum": self.loss_sum,
            "history": [asdict(epoch) for epoch in self.history],
            "best_weights": self.best_weights,
            "network": self.detector.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.update = state["update"]
        self.loss_sum = state["loss_sum"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_weights = state["best_weights"]
        self.detector.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _explain(self, loss: float, batches: Sequence[Batch]) -> str:
        rows = torch.cat([batch.rows for batch in batches]).tolist()
        return (
            f"the loss is {loss} at update {self.update} of {self.updates}: lower "
            "train.learning_rate, set train.clip_norm, or look at this batch: "
            + ", ".join(self.sets.train.ids[rows])
        )

    def _progress_bar(self) -> "tqdm[Any]":
        return tqdm(
            total=self.updates * self.params.batch_size,
            initial=self.update * self.params.batch_size,
            unit="image",
            # Not on the other processes, and (None) not into a file.
            disable=None if self.accelerator.is_main_process else True,
        )

    def _last_validation(self) -> dict[str, str]:
        return {"val_mcc": f"{self.history[-1].val_mcc:.3f}"} if self.history else {}
