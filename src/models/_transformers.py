"""A vision model of transformers, from a hub's repository or a folder, as a frozen backbone.

Its architecture travels with its weights, so that whoever has these needs neither hub nor folder.
"""

import inspect
import json
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.command import InputError
from src.models._weights import NO_WEIGHTS, WAYS_OUT, StateDict

_DESCRIPTION = "description"  # among the weights: text as bytes
_POOLER = "pooler."
_NOT_OF_IT = ("_name_or_path", "architectures", "dtype", "transformers_version")


class Description(NamedTuple):
    """All that rebuilding a backbone takes, beside its weights."""

    config: dict[str, Any]  # of transformers; its `model_type` says which network
    pooled: bool  # whether the features are what the model's own pooling gives, or its first token
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
        self.pooled = known.pooled
        self.num_features: int = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
        # Images of another size; who does not know the word has no positions, or resamples anyway.
        word, accepted = "interpolate_pos_encoding", inspect.signature(self.network.forward)
        self._options = {word: True} if word in accepted.parameters else {}

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features."""
        seen = self.network(pixel_values=pixels, **self._options)
        features: Tensor = seen.pooler_output if self.pooled else seen.last_hidden_state[:, 0]
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
    described = Description(
        {key: value for key, value in network.config.to_dict().items() if key not in _NOT_OF_IT},
        pooled=not missing,
        mean=list(processor.image_mean),
        std=list(processor.image_std),
    )
    text = json.dumps(described._asdict(), sort_keys=True)
    written = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return {**network.state_dict(), _DESCRIPTION: written}
