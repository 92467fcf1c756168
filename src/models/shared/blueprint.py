"""What a detector's file defines: its `BLUEPRINT`, found by the file's name."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.optim import (  # type: ignore[attr-defined]  # it exports them without a list
    param_groups_layer_decay,
    param_groups_weight_decay,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from src.core.cli import InputError
from src.core.params import STRICT
from src.images.crops import Crops, View
from src.models.shared.pretrained import FILES, NO_WEIGHTS, StateDict, load_matching

MODELS = "src.models"  # the package of the detectors

Channels = tuple[float, float, float]  # R, G, B in [0, 1]
Network = TypeVar("Network", bound=nn.Module)


def names() -> list[str]:
    """Return the names of all detectors: those of the files in `src/models`."""
    files = Path(__file__).parents[1].glob("*.py")
    return sorted(file.stem for file in files if file.stem != "__init__")


def _known(name: str) -> str:
    if name not in names():
        raise ValueError(f"not a detector; choose one of {names()}")
    return name


@dataclass(frozen=True, config=STRICT)
class ModelParams:
    """Section `model` of params.yaml."""

    name: Annotated[str, AfterValidator(_known)]
    backbone: str  # of the detectors that take any: its name; empty: the file's own
    weights: str  # to start from: NO_WEIGHTS, a file, or a tag of timm
    image_size: Annotated[int, Field(gt=0, le=2048)]  # pixels a side
    view: Literal["native", "resized"]  # see images.View
    drop_path: Annotated[float, Field(ge=0, lt=1)]  # chance to skip a block, rising with depth

    @property
    def from_scratch(self) -> bool:
        """Whether there are no weights to start from."""
        return self.weights == NO_WEIGHTS


@dataclass(frozen=True, config=STRICT)
class DetectorConfig:
    """All that rebuilding a detector takes, beside its weights."""

    name: Annotated[str, AfterValidator(_known)]
    backbone: str  # see Blueprint.backbone
    view: View
    mean: Channels
    std: Channels
    classes: tuple[str, ...]  # of the logits; the first is "real"


def full_precision(pixels: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which `train.precision` does not touch what is done to `pixels`."""
    device = pixels.device.type
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else nullcontext()


class Blueprint(ABC, Generic[Network]):
    """How a detector is built and trained: defaults, to be overridden where a detector differs.

    A detector's file holds an instance, `BLUEPRINT`. The hooks, in the order in which they run:
    `fetch` (stage `weights`); `backbone`, `normalization`, `network`, then `load_pretrained` or
    `init_weights` (to build it); `preprocess` (in the loader); `parameter_groups` and `loss` (in
    the training loop).
    """

    not_in_network = ""
    """What is done to crops that no network can do, and thus no ONNX file; "" if nothing is."""

    @abstractmethod
    def network(self, config: DetectorConfig, drop_path: float) -> Network:
        """Return the network: normalised pixels (B, 3, size, size) -> logits (B, classes).

        Of a `FrozenNetwork` only the head is fitted, in closed form; otherwise all weights are
        trained. A network without blocks to drop ignores `drop_path`.

        Raises:
            InputError: the config asks for what this detector cannot be.
        """

    def backbone(self, name: str, weights: StateDict) -> str:  # noqa: ARG002 - a hook
        """Return all that rebuilding the backbone `name` takes, beside these published weights.

        Raises:
            InputError: the detector takes no backbone, or the weights are not of that backbone.
        """
        if name:
            raise InputError(
                f"model.backbone = {name!r}: this detector has a network of its own; set it to ''"
            )
        return name

    def normalization(self, backbone: str) -> tuple[Channels, Channels]:  # noqa: ARG002 - a hook
        """Return mean and standard deviation that the pixels are normalised by."""
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    def preprocess(self, crops: Crops) -> Crops:
        """Return what the network sees of `crops`, of the same shape; runs in the loader."""
        return crops

    def init_weights(self, network: Network, pixels: Tensor, seed: int) -> None:
        """Initialise a network without published weights; `pixels` are training images."""

    def fetch(self, backbone: str, tag: str) -> StateDict:  # noqa: ARG002 - a hook
        """Return the published weights `tag`.

        Raises:
            InputError: there are none, or they cannot be fetched.
        """
        raise InputError(
            f"model.weights = {tag!r}: nothing is published for this detector; choose "
            f"{NO_WEIGHTS!r} or a file ({', '.join(FILES)})"
        )

    def load_pretrained(self, network: Network, state: StateDict, origin: str) -> None:
        """Load published weights into `network`; only its head may be missing.

        Raises:
            InputError: they are not of this network; the message names their `origin`.
        """
        load_matching(network, state, (), origin)

    def loss(
        self, network: Network, pixels: Tensor, targets: Tensor, label_smoothing: float
    ) -> Tensor:
        """Return what one update minimises; draws come from torch's generator, seeded for it."""
        return cross_entropy(network(pixels).float(), targets, label_smoothing=label_smoothing)

    def parameter_groups(
        self, network: Network, weight_decay: float, layer_decay: float
    ) -> list[dict[str, Any]]:
        """Return groups for an optimiser, each with its `weight_decay` and its `lr_scale`.

        The head's scale is 1 and each layer below has `layer_decay` times the scale of the one
        above. Biases, norms and what the network itself names do not decay. No scheduler of torch
        knows `lr_scale`: `optim.set_learning_rate` does.

        Raises:
            InputError: `layer_decay` is not 1, but the network does not say what its layers are.
        """
        if not hasattr(network, "group_matcher"):
            if layer_decay != 1:
                raise InputError(
                    f"train.layer_decay = {layer_decay}: this detector's layers have no order; "
                    "set it to 1"
                )
            groups = param_groups_weight_decay(network, weight_decay)
            return [{**group, "lr_scale": 1.0} for group in groups]
        undecayed: Collection[str] = getattr(network, "no_weight_decay", set)()
        scaled: list[dict[str, Any]] = param_groups_layer_decay(
            network,
            weight_decay=weight_decay,
            layer_decay=layer_decay,
            no_weight_decay_list=undecayed,
        )
        return scaled


class ClosedFormHead(nn.Module, ABC):
    """A head that is fitted in closed form, to features that are computed once."""

    settings: ClassVar[tuple[float, ...]]  # of `solve`, one of which validation chooses

    @abstractmethod
    def solve(self, features: Tensor, targets: Tensor, setting: float) -> None:
        """Fit the head to features (n, dims) and targets (n,), with one of `settings`."""


class FrozenNetwork(nn.Module):
    """A frozen backbone, pixels -> features (B, dims), and a head on it in closed form."""

    def __init__(self, backbone: nn.Module, head: ClosedFormHead) -> None:
        """Freeze `backbone`."""
        super().__init__()
        self.backbone, self.head = backbone.requires_grad_(False), head

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        logits: Tensor = self.head(self.backbone(pixels))
        return logits

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Leave the backbone as it is: neither its norms nor its dropout are in training."""
        super().train(mode)
        self.backbone.eval()
        return self


def find_blueprint(name: str) -> Blueprint[Any]:
    """Return the blueprint in the file `name` of `src/models`."""
    blueprint: Blueprint[Any] = importlib.import_module(f"{MODELS}.{name}").BLUEPRINT
    return blueprint
