"""A detector's name -> the detector; each file of this folder without a leading underscore is one.

Nothing but this package knows timm.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, manual_seed, nn, tensor
from torch.nn.functional import cross_entropy

from src.command import InputError
from src.decode import RGBImage
from src.files import write_json
from src.images import Crops, GridCrops, View
from src.models._weights import FILES, NO_WEIGHTS, StateDict, adopt, read_weights
from src.params import STRICT

Channels = tuple[float, float, float]  # R, G, B in [0, 1]


def names() -> list[str]:
    """Return the names of all detectors: those of the files in this folder."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


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
    image_size: Annotated[int, Field(gt=0)]  # pixels a side
    view: Literal["native", "resized"]  # see images.View
    drop_path: Annotated[float, Field(ge=0, lt=1)]  # chance to skip a block, rising with depth

    @property
    def from_scratch(self) -> bool:
        """Whether there are no weights to start from."""
        return self.weights == NO_WEIGHTS


@dataclass(frozen=True, config=STRICT)
class Identity:
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


class Blueprint(ABC):
    """How a detector is made and fitted: defaults, to be overridden where a detector differs.

    A detector's file holds an instance, `BLUEPRINT`.
    """

    @abstractmethod
    def network(self, identity: Identity, drop_path: float) -> nn.Module:
        """Return the network: normalised pixels (B, 3, size, size) -> logits (B, classes).

        If it is a `ClosedForm`, its head is solved for and nothing else changes; otherwise the
        training loop moves all of its weights.

        Raises:
            InputError: the identity asks for what this detector cannot be.
        """

    def backbone(self, name: str, weights: StateDict) -> str:  # noqa: ARG002 - a hook
        """Return all that rebuilding the backbone `name` takes, beside these published weights.

        Raises:
            InputError: the weights are not of that backbone.
        """
        return name

    def statistics(self, backbone: str) -> tuple[Channels, Channels]:  # noqa: ARG002 - a hook
        """Return mean and standard deviation that the pixels are normalised by."""
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    def represent(self, crops: Crops) -> Crops:
        """Return what the network sees of `crops`, of the same shape; runs in the loader."""
        return crops

    def start(self, network: nn.Module, pixels: Tensor, seed: int) -> None:  # noqa: B027 - a hook
        """Initialise a network without published weights; `pixels` are training images."""

    def fetch(self, backbone: str, tag: str) -> StateDict:  # noqa: ARG002 - a hook
        """Return the published weights `tag`.

        Raises:
            InputError: there are none, or they cannot be had.
        """
        raise InputError(
            f"model.weights = {tag!r}: nothing is published for this detector; choose "
            f"{NO_WEIGHTS!r} or a file ({', '.join(FILES)})"
        )

    def adopt(self, network: nn.Module, state: StateDict, origin: str) -> None:
        """Load published weights into `network`; only its head may be missing.

        Raises:
            InputError: they are not of this network; the message names their `origin`.
        """
        adopt(network, state, (), origin)

    def quick(self, network: nn.Module) -> nn.Module:
        """Return what gives the logits of `network`, to rounding, faster on a CPU.

        It shares the weights, knows no dropout, and calls the last layer with the same features.
        """
        return network

    def loss(
        self, network: nn.Module, pixels: Tensor, targets: Tensor, label_smoothing: float
    ) -> Tensor:
        """Return what one update minimises; draws come from torch's generator, seeded for it."""
        return cross_entropy(network(pixels).float(), targets, label_smoothing=label_smoothing)

    def parameter_groups(
        self, network: nn.Module, weight_decay: float, layer_decay: float
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


class ClosedForm(nn.Module, ABC):
    """A network with a head that is solved for: its features are computed once and stay."""

    head: nn.Module  # features (n, dims) -> logits (n, classes)
    settings: tuple[float, ...]  # of the solver, one of which validation chooses

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """Return features (B, dims) of normalised pixels (B, 3, size, size)."""

    @abstractmethod
    def solve(self, features: Tensor, targets: Tensor, setting: float) -> None:
        """Fit the head to features (n, dims) and targets (n,), with one of `settings`."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        logits: Tensor = self.head(self.features(pixels))
        return logits


class Detector(nn.Module):
    """A network that takes crops as they leave the loader."""

    mean: Tensor
    std: Tensor

    def __init__(self, identity: Identity, drop_path: float = 0.0) -> None:
        """Build the network with its random initialisation.

        Raises:
            InputError: the identity asks for what this detector cannot be.
        """
        super().__init__()
        self.identity = identity
        self.blueprint = find_blueprint(identity.name)
        self.network = self.blueprint.network(identity, drop_path)
        self.register_buffer("mean", 255 * tensor(identity.mean), persistent=False)
        self.register_buffer("std", 255 * tensor(identity.std), persistent=False)

    def forward(
        self, images: Tensor, targets: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return logits (B, classes) of uint8 images (B, size, size, 3); with targets, the loss."""
        pixels = self.normalised(images)
        if targets is not None:
            return self.blueprint.loss(self.network, pixels, targets, label_smoothing)
        logits: Tensor = self.network(pixels)
        return logits

    def normalised(self, images: Tensor) -> Tensor:
        """Return uint8 images (B, H, W, 3) as the network's float input (B, 3, H, W)."""
        # By whole rows: a processor is slow at loops over the three channels of a pixel.
        mean, std = self.mean.repeat(images.shape[2]), self.std.repeat(images.shape[2])
        rows = (images.flatten(2).float() - mean) / std  # (B, H, W * 3)
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def crops(self, per_side: int) -> Callable[[RGBImage], Crops]:
        """Return what turns an image into the crops that it is judged by; see `GridCrops`."""
        grid = GridCrops(self.identity.view, per_side)
        return lambda image: self.blueprint.represent(grid(image))

    def start(self, images: Tensor, seed: int) -> None:
        """Initialise without published weights, having seen training images (B, H, W, 3)."""
        self.blueprint.start(self.network, self.normalised(images), seed)


def find_blueprint(name: str) -> Blueprint:
    """Return the blueprint in the file `name` of this folder."""
    blueprint: Blueprint = importlib.import_module(f"{__name__}.{name}").BLUEPRINT
    return blueprint


def published_weights(params: ModelParams) -> StateDict:
    """Return the weights to start from as they were published; nothing for NO_WEIGHTS.

    Raises:
        InputError: there are no such weights, or they cannot be had.
    """
    if params.from_scratch:
        return {}
    path = Path(params.weights)
    if path.suffix in FILES:
        return read_weights(path)
    return find_blueprint(params.name).fetch(params.backbone, params.weights)


def build_detector(
    params: ModelParams, classes: tuple[str, ...], seed: int, weights: StateDict | None = None
) -> Detector:
    """Return a detector for `classes` that starts from `weights` (see `published_weights`).

    `seed` draws what is not published: the head, or all (through torch's global generator).
    Without published weights, let `Detector.start` see training images next.

    Raises:
        InputError: the weights are not of this model, or the parameters do not suit it.
    """
    blueprint = find_blueprint(params.name)
    backbone = blueprint.backbone(params.backbone, weights or {})
    mean, std = blueprint.statistics(backbone)
    identity = Identity(
        name=params.name,
        backbone=backbone,
        view=View(size=params.image_size, fit=params.view),
        mean=mean,
        std=std,
        classes=classes,
    )
    manual_seed(seed)
    detector = Detector(identity, params.drop_path)
    if weights:
        detector.blueprint.adopt(detector.network, weights, params.weights)
    return detector


def save_identity(identity: Identity, path: Path) -> None:
    """Write what `load_detector` needs beside the weights."""
    write_json(TypeAdapter(Identity).dump_python(identity, mode="json"), path)


def load_detector(weights: Path, identity: Path) -> Detector:
    """Return the detector that training saved, ready to predict on the CPU.

    Raises:
        InputError: a file is damaged, or weights and identity do not belong together.
    """
    try:
        known = TypeAdapter(Identity).validate_json(identity.read_bytes())
    except ValidationError as error:
        raise InputError(f"{identity} does not describe a detector: {error}") from error
    detector = Detector(known)
    try:
        detector.network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{weights} does not fit {identity}: {error}") from error
    return detector.eval()
