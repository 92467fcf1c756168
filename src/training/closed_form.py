"""A detector whose head is solved for: features once, then one solution after the other."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src.core.cli import InputError
from src.inference.scorer import Scorer
from src.models.shared.blueprint import ClosedForm
from src.models.shared.detector import Detector
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch, Sets, TrainParams
from src.training.trainer import Fit
from src.training.validation import validate

logger = logging.getLogger(__name__)


class Features(nn.Module):
    """Crops as they leave the loader -> features."""

    def __init__(self, detector: Detector) -> None:
        """Use the normalisation and the network of `detector`."""
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, dims) of uint8 images (B, size, size, 3)."""
        network = self.detector.network
        assert isinstance(network, ClosedForm)
        return network.features(self.detector.normalised(images))


class Solving(Fit):
    """Solves for the head alone; saved after every pass over the images."""

    def __init__(
        self,
        detector: Detector,
        sets: Sets,
        params: TrainParams,
        accelerator: Accelerator,
        workers: int,
    ) -> None:
        """Prepare for the first pass.

        Raises:
            InputError: the parameters ask for what only a training loop does.
        """
        if sets.strata is not None:
            raise InputError(
                f"train.sampling = {params.sampling!r}: {detector.config.name} is solved from "
                "all images; set it to all"
            )
        super().__init__(detector, sets, params, accelerator, workers)
        self.passes: list[Tensor] = []  # features (train images, dims) of each epoch's views

    @property
    def update(self) -> int:
        """How many passes are done."""
        return len(self.passes)

    @property
    def images_seen(self) -> int:
        """How many views of training images were looked at."""
        return self.update * len(self.sets.train)

    def run(self, checkpoint: Checkpoint, report: Callable[[Sequence[Epoch]], None]) -> None:
        """Compute features, solve with every setting, keep what validates best."""
        for epoch in range(self.update, self.params.epochs):
            self.passes.append(self._features(epoch))
            if self.accelerator.is_main_process:
                checkpoint.save(self.state_dict())
        val_features = self._score(
            Scorer(self.sets.val, self.params.val_batch_size, self.accelerator, self.workers)
        )
        features, targets = torch.cat(self.passes), self.sets.targets.repeat(self.params.epochs)
        network = self.detector.network
        assert isinstance(network, ClosedForm)
        for setting in network.settings:
            network.cpu().solve(features, targets, setting)
            self._judge(network, features, targets, val_features)
            report(self.history)

    def _features(self, epoch: int) -> Tensor:
        logger.info("features of training images, pass %d of %d", epoch + 1, self.params.epochs)
        batch_size = self.params.batch_size
        return self._score(
            Scorer(self.sets.train, batch_size, self.accelerator, self.workers, epoch)
        )

    def _score(self, scorer: Scorer) -> Tensor:
        return scorer(Features(self.detector))

    @torch.no_grad()
    def _judge(
        self, network: ClosedForm, features: Tensor, targets: Tensor, val_features: Tensor
    ) -> None:
        epoch = Epoch(  # one for each setting of the solver
            epoch=len(self.history) + 1,
            learning_rate=0.0,  # there is none
            train_loss=float(cross_entropy(network.head(features), targets)),
            **validate(network.head(val_features), self.sets.val_labels),
        )
        self.record(epoch, network)
        if self.accelerator.is_main_process:
            logger.info(
                "solution %d of %d: validation MCC %.3f, AUROC %.3f",
                *(epoch.epoch, len(network.settings), epoch.val_mcc, epoch.val_auroc),
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next pass depends on."""
        return {"passes": self.passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.passes = state["passes"]
