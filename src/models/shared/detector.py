"""A trained or trainable detector: build it, save it, load it."""

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, manual_seed, nn, tensor

from src.core.cli import InputError
from src.core.files import write_json
from src.images.crops import Crops, GridCrops, View
from src.images.decode import RGBImage
from src.models.shared.blueprint import DetectorConfig, ModelParams, find_blueprint
from src.models.shared.pretrained import FILES, StateDict, read_weights


class Detector(nn.Module):
    """A network that takes crops as they leave the loader."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig, drop_path: float = 0.0) -> None:
        """Build the network with its random initialisation.

        Raises:
            InputError: the config asks for what this detector cannot be.
        """
        super().__init__()
        self.config = config
        self.blueprint = find_blueprint(config.name)
        self.network = self.blueprint.network(config, drop_path)
        self.register_buffer("mean", 255 * tensor(config.mean), persistent=False)
        self.register_buffer("std", 255 * tensor(config.std), persistent=False)

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
        grid = GridCrops(self.config.view, per_side)
        return lambda image: self.blueprint.preprocess(grid(image))

    def init_weights(self, images: Tensor, seed: int) -> None:
        """Initialise without published weights, having seen training images (B, H, W, 3)."""
        self.blueprint.init_weights(self.network, self.normalised(images), seed)


def published_weights(params: ModelParams) -> StateDict:
    """Return the weights to start from as they were published; nothing for NO_WEIGHTS.

    Raises:
        InputError: there are no such weights, or they cannot be fetched.
    """
    if params.from_scratch:
        return {}
    if params.weights.endswith(FILES):
        return read_weights(Path(params.weights))
    return find_blueprint(params.name).fetch(params.backbone, params.weights)


def build_detector(
    params: ModelParams, classes: tuple[str, ...], seed: int, weights: StateDict | None = None
) -> Detector:
    """Return a detector for `classes` that starts from `weights` (see `published_weights`).

    `seed` draws what is not published: the head, or all (through torch's global generator).
    Without published weights, let `Detector.init_weights` see training images next.

    Raises:
        InputError: the weights are not of this model, or the parameters do not suit it.
    """
    blueprint = find_blueprint(params.name)
    backbone = blueprint.backbone(params.backbone, weights or {})
    mean, std = blueprint.normalization(backbone)
    config = DetectorConfig(
        name=params.name,
        backbone=backbone,
        view=View(size=params.image_size, resize=params.view == "resized"),
        mean=mean,
        std=std,
        classes=classes,
    )
    manual_seed(seed)
    detector = Detector(config, params.drop_path)
    if weights:
        detector.blueprint.load_pretrained(detector.network, weights, params.weights)
    return detector


def save_config(config: DetectorConfig, path: Path) -> None:
    """Write what `load_detector` needs beside the weights."""
    write_json(TypeAdapter(DetectorConfig).dump_python(config, mode="json"), path)


def load_detector(weights: Path, config: Path) -> Detector:
    """Return the detector that training saved, ready to predict on the CPU.

    Raises:
        InputError: a file is damaged, or weights and config do not belong together.
    """
    try:
        known = TypeAdapter(DetectorConfig).validate_json(config.read_bytes())
    except ValidationError as error:
        raise InputError(f"{config} does not describe a detector: {error}") from error
    detector = Detector(known)
    try:
        detector.network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{weights} does not fit {config}: {error}") from error
    return detector.eval()
