"""A vision model of transformers, from a hub's repository or a folder, as a frozen backbone.

Its architecture travels with its weights, so that whoever has these needs neither hub nor folder.
"""

import inspect
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.core.cli import InputError
from src.models.shared.pretrained import NO_WEIGHTS, WAYS_OUT, StateDict

_DESCRIPTION = "description"  # among the weights: text as bytes
_POOLER = "pooler."
_USUAL_SIDE = 224  # pixels; of models that say none, because they take any
_NOT_OF_IT = ("_name_or_path", "architectures", "dtype", "transformers_version")


class Description(NamedTuple):
    """All that rebuilding a backbone takes, beside its weights."""

    config: dict[str, Any]  # of transformers; its `model_type` says which network
    pooled: bool  # features: what the model's own pooling gives, or else its first token
    width: int  # how many features
    mean: list[float]  # of the pixels, R, G, B in [0, 1]
    std: list[float]


class Backbone(nn.Module):
    """A model of transformers that gives features (B, dims) of normalised pixels (B, 3, H, W)."""

    def __init__(self, description: str) -> None:
        """Build the network with random weights."""
        super().__init__()
        known = read_description(description)
        settings = dict(known.config)
        transformers = _library()
        config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.network = transformers.AutoModel.from_config(config)
        self.pooled, self.num_features = known.pooled, known.width
        # Images of another size; who does not know the word has no positions, or resamples anyway.
        word, accepted = "interpolate_pos_encoding", inspect.signature(self.network.forward)
        self._options = {word: True} if word in accepted.parameters else {}

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features."""
        return _features(self.network(pixel_values=pixels, **self._options), self.pooled)


def _features(seen: Any, pooled: bool) -> Tensor:
    features: Tensor = seen.pooler_output if pooled else seen.last_hidden_state[:, 0]
    return features.flatten(1)


def _library() -> Any:
    import transformers  # takes seconds, and most detectors do without

    # It would list the texts' half of a model as weights that nobody asked for.
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # theirs
    return transformers


def is_named(backbone: str) -> bool:
    """Return whether `backbone` names a repository or a folder, and not a network of timm."""
    return "/" in backbone


def is_description(backbone: str) -> bool:
    """Return whether `backbone` is what `describe` returns."""
    return backbone.startswith("{")


def read_description(text: str) -> Description:
    """Return what `describe` has put into one text."""
    return Description(**json.loads(text))


def describe(backbone: str, weights: StateDict) -> str:
    """Return the description of `backbone` that came with its weights, as one text.

    Raises:
        InputError: these are other weights, or none.
    """
    if _DESCRIPTION not in weights:
        raise InputError(
            f"model.backbone = {backbone!r} is one of transformers, whose weights are a revision "
            f"of the repository: set model.weights to one (main), not to {NO_WEIGHTS!r} or a file"
        )
    return bytes(weights[_DESCRIPTION].tolist()).decode()


def tensors(weights: StateDict) -> StateDict:
    """Return what `fetch` returned without the description."""
    return {f"network.{name}": value for name, value in weights.items() if name != _DESCRIPTION}


def fetch(backbone: str, revision: str) -> StateDict:
    """Return the weights of `backbone` at a revision of its repository, and its description.

    Of a model of images and texts, those of images.

    Raises:
        InputError: there is no such model, it cannot be reached, or it is not one of images.
    """
    folder = Path(backbone)
    if backbone.startswith((".", "/", "~")) and not folder.is_dir():
        raise InputError(
            f"model.backbone = {backbone!r}: there is no folder {folder.resolve()}: give an "
            "absolute path (`dvc exp run` with --temp or --queue works in a folder of its own)"
        )
    transformers = _library()
    try:
        config = transformers.AutoConfig.from_pretrained(backbone, revision=revision)
        config = getattr(config, "vision_config", config)
        processor = transformers.AutoImageProcessor.from_pretrained(backbone, revision=revision)
        network, loading = transformers.AutoModel.from_pretrained(
            backbone,
            revision=revision,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"model.backbone = {backbone!r}, model.weights = {revision!r}: transformers cannot "
            f"load it: {' '.join(str(error).split())} {WAYS_OUT}"
        ) from error
    missing = sorted(loading["missing_keys"])
    if others := [name for name in missing if not name.startswith(_POOLER)]:
        raise InputError(
            f"model.backbone = {backbone!r}: {len(others)} weights are missing, first {others[0]}"
        )
    pooled, width = _pooling(network, not missing, backbone)
    described = Description(
        {key: value for key, value in network.config.to_dict().items() if key not in _NOT_OF_IT},
        pooled,
        width,
        mean=list(processor.image_mean),
        std=list(processor.image_std),
    )
    text = json.dumps(described._asdict(), sort_keys=True)
    written = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return {**network.state_dict(), _DESCRIPTION: written}


@torch.no_grad()
def _pooling(network: Any, is_complete: bool, backbone: str) -> tuple[bool, int]:
    """Return whether features come from the model's own pooling, and how many, of a black image.

    Raises:
        InputError: it has no features of an image.
    """
    side = getattr(network.config, "image_size", _USUAL_SIDE)
    height, width = (side, side) if isinstance(side, int) else side
    try:
        seen = network.eval()(pixel_values=torch.zeros(1, 3, height, width))
        pooled = is_complete and seen.get("pooler_output") is not None
        if not pooled and seen.last_hidden_state.ndim != 3:
            raise ValueError("it has neither a pooling nor tokens")
        return pooled, _features(seen, pooled).shape[1]
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"model.backbone = {backbone!r} ({network.config.model_type}) gives no features of an "
            f"image: {error}; choose one like CLIP, SigLIP, DINOv2, ViT or ConvNeXt"
        ) from error
