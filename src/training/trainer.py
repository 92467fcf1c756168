"""What all trainers have in common: their inputs, their history, the weights that are kept."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from accelerate import Accelerator
from torch import nn

from src.models.shared.detector import Detector
from src.models.shared.pretrained import StateDict
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch, TrainingData, TrainParams, best_epoch


class Trainer(ABC):
    """A run that can be saved, and resumed where it was."""

    def __init__(
        self,
        detector: Detector,
        data: TrainingData,
        params: TrainParams,
        accelerator: Accelerator,
        workers: int,
    ) -> None:
        """Train `detector` in place, with `workers` loader processes.

        Raises:
            InputError: the parameters do not suit the detector, the images or the machine.
        """
        self.detector = detector.to(accelerator.device)
        self.data, self.params, self.accelerator = data, params, accelerator
        self.workers = workers
        self.history: list[Epoch] = []
        self.weights: StateDict = {}
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make what the first step needs; errors as for the constructor."""

    @property
    def kept(self) -> Epoch:
        """The epoch whose weights are kept: the one that validated best."""
        return best_epoch(self.history)

    def record(self, epoch: Epoch, network: nn.Module) -> None:
        """Add `epoch` to the history, and the weights of `network` if they are to be kept."""
        self.history.append(epoch)
        if self.kept is epoch:
            state = network.state_dict()
            self.weights = {name: value.cpu().clone() for name, value in state.items()}

    @property
    @abstractmethod
    def update(self) -> int:
        """How many steps are done; the same in all processes."""

    @property
    @abstractmethod
    def images_seen(self) -> int:
        """How many views of training images the steps so far were made of."""

    @abstractmethod
    def run(self, checkpoint: Checkpoint, report: Callable[[Sequence[Epoch]], None]) -> None:
        """Train to the end, saving to `checkpoint`, calling `report` with the history as it grows.

        Raises:
            InputError: the loss is no longer a number; the message names the images.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
