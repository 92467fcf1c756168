"""The training loop: batches in a fixed order, exact to the bit after any interruption."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim import Optimizer

from src.core.cli import InputError
from src.images.loader import Batch, BatchLoader
from src.inference.scorer import Scorer
from src.models.shared.detector import Detector
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch, best_epoch
from src.training.optim import Schedule, WeightAverage, build_optimizer, set_learning_rate
from src.training.progress import Progress
from src.training.sampler import BatchSampler
from src.training.trainer import Trainer
from src.training.validation import validate

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0  # what a crash can cost at most, beside the start-up


class GradientTrainer(Trainer):
    """Trains all weights, one batch after the other; saved after any update."""

    update = 0

    def prepare(self) -> None:
        """Prepare everything for the first update.

        Raises:
            InputError: the batch size does not suit the images or the number of processes, or the
                detector cannot do what the parameters ask for.
        """
        data, params, accelerator = self.data, self.params, self.accelerator
        self.sampler = BatchSampler(
            data.train.keys,
            params.seed,
            params.epochs,
            params.batch_size,
            params.accumulation,
            accelerator.process_index,
            accelerator.num_processes,
            data.strata,
        )
        self.updates = params.epochs * self.sampler.updates_per_epoch
        self.schedule = Schedule(
            params.peak_rate,
            self.updates,
            round(params.warmup_epochs * self.sampler.updates_per_epoch),
        )
        if params.warmup_epochs >= params.epochs and accelerator.is_main_process:
            logger.warning(
                "train.warmup_epochs = %g of train.epochs = %d: the rate does not reach "
                "train.learning_rate",
                params.warmup_epochs,
                params.epochs,
            )
        self.average = WeightAverage(self.detector, params.ema_decay) if params.ema_decay else None
        self.model, self.optimizer = self._accelerated()
        self.score = Scorer(data.val, params.val_batch_size, accelerator, self.workers)
        self.loss_sum = 0.0  # over the updates of the unfinished epoch

    def _accelerated(self) -> tuple[nn.Module, Optimizer]:
        """Return the detector and its optimiser, made ready for the processes and the precision."""
        detector, params = self.detector, self.params
        groups = detector.blueprint.parameter_groups(
            detector.network, params.weight_decay, params.layer_decay
        )
        if params.gradient_checkpointing:
            save_memory(detector)
        if params.compile:
            detector.network.compile()
        optimizer = build_optimizer(groups, params.beta2)
        model, optimizer = self.accelerator.prepare(detector, optimizer)
        return model, optimizer

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights are kept: the one that validated best, or the last."""
        return self.history[-1] if self.params.select == "last" else super().kept

    @property
    def images_seen(self) -> int:
        """How many training images the updates so far were made of."""
        return self.update * self.params.batch_size

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` brought nothing better."""
        done = len(self.history)
        patient = done == 0 or done - best_epoch(self.history).epoch < self.params.patience
        return done == self.params.epochs or not patient

    def run(self, checkpoint: Checkpoint, report: Callable[[Sequence[Epoch]], None]) -> None:
        """Train to the end, saving to `checkpoint`, calling `report` after every epoch.

        Raises:
            InputError: loss or gradient is no longer a number; the message names the images.
        """
        batches = iter(self._loader())
        saved = time.monotonic()
        per_epoch = self.sampler.updates_per_epoch
        sizes = self.update, self.updates, per_epoch, self.params.batch_size
        with closing(Progress(*sizes, is_shown=self.accelerator.is_main_process)) as progress:
            while not self.finished:
                loss = self._update(list(islice(batches, self.params.accumulation)))
                progress.show(self.update, loss, self.history[-1] if self.history else None)
                ends_epoch = self.update % per_epoch == 0
                if ends_epoch:
                    self._finish_epoch()
                    report(self.history)
                if ends_epoch or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(checkpoint)
                    saved = time.monotonic()

    def _loader(self) -> BatchLoader:
        requests, size = self.sampler.requests(self.update), self.sampler.micro_batch_size
        pin = self.accelerator.device.type == "cuda"
        return BatchLoader(self.data.train, requests, size, self.workers, pin)

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
        self._check("loss", mean, batches)
        norm = self._clip()
        # A step whose gradient fp16 cannot hold is left out, and losses are scaled by less.
        scaler = self.accelerator.scaler
        if scaler is None or scaler.get_scale() <= 1:
            self._check("gradient's norm", norm, batches)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update_parameters(self.detector)
        self.update += 1
        self.loss_sum += mean
        return mean

    def _loss(self, batch: Batch) -> Tensor:
        device = self.accelerator.device
        images = batch.images.to(device, non_blocking=True)
        targets = self.data.targets[batch.rows].to(device)
        loss: Tensor = self.model(images, targets, self.params.label_smoothing)
        return loss

    def _clip(self) -> float:
        """Shorten the gradient as the parameters say; return how long it was."""
        longest = self.params.clip_norm or float("inf")
        return float(self.accelerator.clip_grad_norm_(self.model.parameters(), longest))

    def _check(self, what: str, value: float, batches: Sequence[Batch]) -> None:
        if np.isfinite(value):
            return
        mine = torch.cat([batch.rows for batch in batches]).to(self.accelerator.device)
        rows = self.accelerator.gather(mine).cpu()
        raise InputError(
            f"the {what} is {value} at update {self.update} of {self.updates}: lower "
            "train.learning_rate, set train.clip_norm, or look at this batch: "
            + ", ".join(self.data.train.ids[rows])
        )

    def _seed(self, part: int) -> None:
        # Drop path and the losses draw here; seeded like this, nothing that ran before matters.
        text = f"{self.params.seed}/{self.update}/{part}/{self.accelerator.process_index}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        torch.manual_seed(int.from_bytes(digest, "big") >> 1)

    def _finish_epoch(self) -> None:
        model = self.average.module if self.average else self.detector
        for buffer in model.buffers():
            broadcast(buffer)  # each process has statistics of its own images; the first's are kept
        logits = self.score(model)
        if not logits.isfinite().all():
            raise InputError(
                f"logits of validation images at epoch {len(self.history) + 1} are no numbers: "
                "lower train.learning_rate or set train.clip_norm"
            )
        epoch = Epoch(
            epoch=len(self.history) + 1,
            learning_rate=self.schedule(self.update - 1),
            train_loss=self.loss_sum / self.sampler.updates_per_epoch,
            **validate(logits, self.data.val_labels),
        )
        self.record(epoch, model.network)
        self.loss_sum = 0.0
        if self.accelerator.is_main_process:
            logger.info(
                "epoch %d of %d: train loss %.4f, validation loss %.4f, MCC %.3f, AUROC %.3f",
                epoch.epoch,
                self.params.epochs,
                epoch.train_loss,
                epoch.val_loss,
                epoch.val_mcc,
                epoch.val_auroc,
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
            "weights": self.weights,
            "network": self.detector.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if (scaler := self.accelerator.scaler) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.update = state["update"]
        self.loss_sum = state["loss_sum"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.weights = state["weights"]
        self.detector.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def save_memory(detector: Detector) -> None:
    """Make the backward pass compute activations anew instead of remembering them.

    Raises:
        InputError: the detector's network has no such switch.
    """
    switch: Any = getattr(detector.network, "set_grad_checkpointing", None)
    if switch is None:
        raise InputError(
            f"train.gradient_checkpointing: {detector.config.name} cannot do this; set it to "
            "false, or lower train.batch_size or raise train.accumulation"
        )
    switch(True)
