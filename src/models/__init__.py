"""A model's name -> a detector: its network, starting weights, and how to rebuild it elsewhere.

The only module that knows timm.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import timm
import torch
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import load_state_dict_from_hf
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn

from src.command import InputError
from src.files import write_json
from src.images import View
from src.params import STRICT

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


class Architecture(NamedTuple):
    """A model of timm, and the keyword arguments that shrink it."""

    timm_name: str
    shape: Mapping[str, int]


_BASE, _LARGE = "beit3_base_patch16_224", "beit3_large_patch16_224"
MODELS = {
    "beit3_large": Architecture(_LARGE, {"patch_size": 16}),
    "beit3_base": Architecture(_BASE, {"patch_size": 16}),
    # Trained from nothing on a CPU in minutes.
    "beit3_tiny": Architecture(
        _BASE, {"patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3}
    ),
    # Trains in seconds: to try the plumbing, not to detect anything.
    "beit3_nano": Architecture(
        _BASE, {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    ),
}
NO_WEIGHTS = "none"
_FILES = (".safetensors", ".pth", ".pt")


def _known(name: str) -> str:
    if name not in MODELS:
        raise ValueError(f"not a model; choose one of {sorted(MODELS)}")
    return name


@dataclass(frozen=True, config=STRICT)
class ModelParams:
    """Section `model` of params.yaml."""

    name: Annotated[str, AfterValidator(_known)]
    weights: str  # to start from: NO_WEIGHTS, a file, or a tag of timm
    image_size: Annotated[int, Field(gt=0)]  # pixels a side, a multiple of the patch size
    view: Literal["native", "resized"]  # see images.View
    drop_path: Annotated[float, Field(ge=0, lt=1)]  # chance to skip a block, rising with depth

    @property
    def from_scratch(self) -> bool:
        """Whether there are no weights to start from."""
        return self.weights == NO_WEIGHTS

    @property
    def weights_file(self) -> Path | None:
        """The local file to start from, if it is one."""
        path = Path(self.weights)
        return path if path.suffix in _FILES else None


@dataclass(frozen=True, config=STRICT)
class Identity:
    """All that rebuilding a detector takes, beside its weights."""

    name: Annotated[str, AfterValidator(_known)]
    view: View
    mean: tuple[float, float, float]  # of the RGB channels in [0, 1]
    std: tuple[float, float, float]
    classes: tuple[str, ...]  # of the logits; the first is "real"


class Detector(nn.Module):
    """A network that takes crops as they leave the loader."""

    mean: Tensor
    std: Tensor

    def __init__(self, identity: Identity, drop_path: float = 0.0) -> None:
        """Build the network with timm's random initialisation.

        Raises:
            InputError: the image size is no multiple of the patch size.
        """
        super().__init__()
        architecture = MODELS[identity.name]
        size, patch = identity.view.size, architecture.shape["patch_size"]
        if size % patch:
            raise InputError(
                f"model.image_size = {size}: {identity.name} needs a multiple of {patch}"
            )
        self.identity = identity
        options: dict[str, Any] = {**architecture.shape, "img_size": size}
        network = timm.create_model(
            architecture.timm_name,
            num_classes=len(identity.classes),
            drop_path_rate=drop_path,
            **options,
        )
        assert isinstance(network, VisionTransformer)
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(identity.mean), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(identity.std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of uint8 images (B, size, size, 3)."""
        pixels = self.normalised(images)
        logits: Tensor = self.network(pixels)
        return logits

    def normalised(self, images: Tensor) -> Tensor:
        """Return uint8 images (B, H, W, 3) as the network's float input (B, 3, H, W)."""
        return ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)


def build_detector(params: ModelParams, classes: tuple[str, ...], seed: int) -> Detector:
    """Return a detector for `classes` with the published weights that `params` ask for.

    `seed` draws what is not published: the head, or all (through torch's global generator).
    Without published weights, let `initialise.init_from_scratch` see training images next.

    Raises:
        InputError: no such weights, or they are not of this model.
    """
    identity = Identity(
        name=params.name,
        view=View(size=params.image_size, fit=params.view),
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        classes=classes,
    )
    torch.manual_seed(seed)
    detector = Detector(identity, params.drop_path)
    if not params.from_scratch:
        _adopt(detector.network, _published_weights(params), params.weights)
        # The head starts near zero, so that the first steps do not tear good features apart.
        # Source: BEiT-3's fine-tuning code, `init_scale`.
        with torch.no_grad():
            detector.network.get_parameter("head.weight").mul_(0.001)
    return detector


def parameter_groups(
    detector: Detector, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return groups for an optimiser, each with its `weight_decay` and its `lr_scale`.

    The head's scale is 1 and each layer below has `layer_decay` times the scale of the one above.
    Biases, norms, the class token and the position embedding do not decay. No scheduler of torch
    knows `lr_scale`: `optim.set_learning_rate` does.
    """
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        detector.network,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        no_weight_decay_list=detector.network.no_weight_decay(),
    )
    return groups


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


def _published_weights(params: ModelParams) -> StateDict:
    if params.weights_file:
        return _read_weights(params.weights_file)
    timm_name = MODELS[params.name].timm_name
    tags = [name.split(".", 1)[1] for name in timm.list_pretrained(f"{timm_name}.*")]
    if MODELS[params.name].shape.keys() - {"patch_size"}:
        tags = []  # shrunk: nothing is published for it
    if params.weights not in tags:
        raise InputError(
            f"model.weights = {params.weights!r}: for {params.name} choose {NO_WEIGHTS!r}, "
            f"a file ({', '.join(_FILES)}) or one of the tags {tags}"
        )
    return _fetch_weights(f"{timm_name}.{params.weights}")


def _read_weights(path: Path) -> StateDict:
    if not path.is_file():
        raise InputError(f"model.weights: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises half a dozen unrelated types here, and all of them mean this:
        raise InputError(f"model.weights: {path} holds no weights: {error}") from error
    state: StateDict = loaded.get("model", loaded)
    return state


def _fetch_weights(name: str) -> StateDict:
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    assert config.hf_hub_id is not None
    try:
        state: StateDict = load_state_dict_from_hf(config.hf_hub_id)
    except OSError as error:
        raise InputError(
            f"model.weights: {name} could not be fetched ({type(error).__name__}). Either try "
            "again with a network; or fill the Hugging Face cache on another machine and set "
            "HF_HOME to a copy of it; or download the file there and set model.weights to it"
        ) from error
    return state


def _adopt(network: VisionTransformer, state: StateDict, origin: str) -> None:
    """Load `state` (timm's or the official layout); only the head may be missing."""
    body = checkpoint_filter_fn(state, network)
    body = {key: value for key, value in body.items() if not key.startswith("head.")}
    try:
        result = network.load_state_dict(body, strict=False)
    except RuntimeError as error:  # equal names, other shapes
        raise InputError(f"model.weights: {origin} is not of this model: {error}") from error
    # Official fine-tuning replaces the final norm of the pre-trained encoder along with the head.
    missing = [key for key in result.missing_keys if not key.startswith(("head.", "fc_norm."))]
    if missing:
        raise InputError(
            f"model.weights: {origin} is not of this model: {len(missing)} of its weights are "
            f"missing, first {missing[0]}"
        )
    logger.info("weights from %s; not used: %s", origin, result.unexpected_keys or "none")
