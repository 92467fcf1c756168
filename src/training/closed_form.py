"""Trainer of heads in closed form: features once, then one solution per setting."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src.core.cli import InputError
from src.inference.scorer import Scorer
from src.models.shared.blueprint import FrozenNetwork
from src.models.shared.detector import Detector
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch
from src.training.trainer import Trainer
from src.training.validation import validate

logger = logging.getLogger(__name__)


class Features(nn.Module):
    """Crops as they leave the loader -> features."""

    def __init__(self, detector: Detector, backbone: nn.Module) -> None:
        """Use the normalisation of `detector`."""
        super().__init__()
        self.detector, self.backbone = detector, backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, dims) of uint8 images (B, size, size, 3)."""
        features: Tensor = self.backbone(self.detector.normalised(images))
        return features


class ClosedFormTrainer(Trainer):
    """Fits the head alone; saved after every pass over the images."""

    def prepare(self) -> None:
        """Prepare for the first pass over the images.

        Raises:
            InputError: the parameters ask for what only a training loop does.
        """
        if self.data.strata is not None:
            raise InputError(
                f"train.sampling = {self.params.sampling!r}: {self.detector.config.name} is fitted "
                "to all images; set it to all"
            )
        assert isinstance(self.detector.network, FrozenNetwork)
        self.network = self.detector.network
        self.passes: list[Tensor] = []  # features (train images, dims) of each epoch's views

    @property
    def update(self) -> int:
        """How many passes are done."""
        return len(self.passes)

    @property
    def images_seen(self) -> int:
        """How many views of training images the features are of."""
        return self.update * len(self.data.train)

    def run(self, checkpoint: Checkpoint, report: Callable[[Sequence[Epoch]], None]) -> None:
        """Compute features, solve with every setting, keep what validates best."""
        for epoch in range(self.update, self.params.epochs):
            self.passes.append(self._features(epoch))
            if self.accelerator.is_main_process:
                checkpoint.save(self.state_dict())
        val_features = self._score(
            Scorer(self.data.val, self.params.val_batch_size, self.accelerator, self.workers)
        )
        features, targets = torch.cat(self.passes), self.data.targets.repeat(self.params.epochs)
        head = self.network.cpu().head
        for setting in head.settings:
            head.solve(features, targets, setting)
            self._validate(features, targets, val_features)
            report(self.history)

    def _features(self, epoch: int) -> Tensor:
        logger.info("features of training images, pass %d of %d", epoch + 1, self.params.epochs)
        batch_size = self.params.batch_size
        return self._score(
            Scorer(self.data.train, batch_size, self.accelerator, self.workers, epoch)
        )

    def _score(self, scorer: Scorer) -> Tensor:
        return scorer(Features(self.detector, self.network.backbone))

    @torch.no_grad()
    def _validate(self, features: Tensor, targets: Tensor, val_features: Tensor) -> None:
        head = self.network.head
        epoch = Epoch(  # one for each setting of the solver
            epoch=len(self.history) + 1,
            learning_rate=0.0,  # there is none
            train_loss=float(cross_entropy(head(features), targets)),
            **validate(head(val_features), self.data.val_labels),
        )
        self.record(epoch, self.network)
        if self.accelerator.is_main_process:
            logger.info(
                "solution %d of %d: validation MCC %.3f, AUROC %.3f",
                epoch.epoch,
                len(head.settings),
                epoch.val_mcc,
                epoch.val_auroc,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next pass depends on."""
        return {"passes": self.passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.passes = state["passes"]
