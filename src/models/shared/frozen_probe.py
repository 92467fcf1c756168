"""A frozen backbone of timm or transformers, and a head on its features that is solved for."""

import logging
from collections.abc import Sequence
from typing import Any

import timm
import torch
from sklearn.linear_model import LogisticRegression
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn
from torch.nn.functional import normalize

from src.core.cli import InputError
from src.models.shared import hf_backbone
from src.models.shared.blueprint import Blueprint, Channels, ClosedForm, DetectorConfig
from src.models.shared.pretrained import StateDict, fetch_weights, load_matching

logger = logging.getLogger(__name__)

_ITERATIONS = 1000
_TEMPERATURE = 100.0  # of cosines, as CLIP scales them


class Frozen(ClosedForm):
    """The backbone and what is common to both heads."""

    def __init__(self, backbone: nn.Module) -> None:
        """Freeze `backbone`, which returns features (B, dims)."""
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the frozen backbone makes of `pixels`."""
        features: Tensor = self.backbone(pixels)
        return features

    def train(self, mode: bool = True) -> "Frozen":
        """Leave the backbone as it is: neither its norms nor its dropout are in training."""
        super().train(mode)
        self.backbone.eval()
        return self


class LinearProbe(Frozen):
    """Logistic regression on the features."""

    head: nn.Linear
    settings = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn, on standardised features

    def __init__(self, backbone: nn.Module, dims: int, classes: int) -> None:
        """Start with a head of zeros."""
        super().__init__(backbone)
        self.head = nn.Linear(dims, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @torch.no_grad()
    def solve(self, features: Tensor, targets: Tensor, setting: float) -> None:
        """Fit the regression with C = `setting`; the scaling goes into the layer."""
        rows = features.double()
        mean, std = rows.mean(0), rows.std(0).clamp(min=1e-6)
        fit = LogisticRegression(C=setting, max_iter=_ITERATIONS)
        fit.fit(((rows - mean) / std).numpy(), targets.numpy())
        weight, bias = torch.from_numpy(fit.coef_), torch.from_numpy(fit.intercept_)
        if len(weight) == 1:  # of two classes, scikit-learn has the log odds of the second
            weight, bias = (torch.cat([-part / 2, part / 2]) for part in (weight, bias))
        weight = weight / std
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias - weight @ mean)


class Bank(nn.Module):
    """Features of known images; a class's logit is the mean cosine to its nearest of them."""

    known: Tensor
    targets: Tensor
    neighbours: Tensor

    def __init__(self, dims: int, classes: int) -> None:
        """Start with one empty image of each class."""
        super().__init__()
        self.classes = classes
        self.register_buffer("known", torch.zeros(classes, dims))
        self.register_buffer("targets", torch.arange(classes))
        self.register_buffer("neighbours", torch.tensor(1))

    def fill(self, features: Tensor, targets: Tensor, neighbours: int) -> None:
        """Remember these images and no others."""
        device = self.known.device
        self.known = normalize(features, dim=1).to(device)
        self.targets = targets.to(device)
        self.neighbours = torch.tensor(neighbours, device=device)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes) of features (B, dims)."""
        cosines = normalize(features, dim=1) @ self.known.T  # (B, images)
        logits = []
        for target in range(self.classes):
            mine = cosines[:, self.targets == target]
            nearest = mine.topk(min(int(self.neighbours), mine.shape[1]), 1).values
            logits.append(nearest.mean(1))
        return _TEMPERATURE * torch.stack(logits, 1)

    def _load_from_state_dict(self, state_dict: StateDict, prefix: str, *args: Any) -> None:
        # How many images there are is known only now.
        for name in ("known", "targets"):
            if (found := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(found, device=self.known.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class NeighbourProbe(Frozen):
    """The nearest known images of each class."""

    head: Bank
    settings = (1, 3, 5, 9)  # neighbours, as in UnivFD's tables

    def __init__(self, backbone: nn.Module, dims: int, classes: int) -> None:
        """Start with an empty bank."""
        super().__init__(backbone)
        self.head = Bank(dims, classes)

    def solve(self, features: Tensor, targets: Tensor, setting: float) -> None:
        """Remember all images; look at `setting` neighbours of each class."""
        self.head.fill(features, targets, int(setting))


class Probe(Blueprint):
    """A head of some kind on a frozen backbone of timm or transformers."""

    def __init__(self, backbone: str, head: type[LinearProbe] | type[NeighbourProbe]) -> None:
        """Take `backbone` of timm unless model.backbone names another."""
        self.timm_name, self.head = backbone, head

    def backbone(self, name: str, weights: StateDict) -> str:
        """Return timm's name, or the description of a model of transformers."""
        return hf_backbone.describe(name, weights) if hf_backbone.is_named(name) else name

    def normalization(self, backbone: str) -> tuple[Channels, Channels]:
        """Return what the backbone was trained with."""
        if hf_backbone.is_description(backbone):
            known = hf_backbone.read_description(backbone)
            return _channels(known.mean), _channels(known.std)
        config = timm.get_pretrained_cfg(backbone or self.timm_name)
        if config is None:
            return super().normalization(backbone)
        return _channels(config.mean), _channels(config.std)

    def network(self, config: DetectorConfig, drop_path: float) -> nn.Module:
        """Return the frozen backbone, random until weights are adopted, and the empty head.

        Raises:
            InputError: timm has no such backbone.
        """
        del drop_path
        backbone = self._build(config.backbone, config.view.size)
        return self.head(backbone, backbone.num_features, len(config.classes))

    def _build(self, name: str, size: int) -> Any:
        if hf_backbone.is_description(name):
            return hf_backbone.Backbone(name)
        name = name or self.timm_name
        if not timm.is_model(name.split(".")[0]):
            raise InputError(
                f"model.backbone = {name!r}: timm has no such network; see timm.list_models(). One "
                "of transformers has a / in its name: owner/name on the hub, or ./folder"
            )
        config = timm.get_pretrained_cfg(name)
        fixed = config is not None and config.fixed_input_size
        options: dict[str, Any] = {"img_size": size} if fixed else {}
        return timm.create_model(name.split(".")[0], num_classes=0, **options)

    def init_weights(self, network: nn.Module, pixels: Tensor, seed: int) -> None:
        """Say that features of a random backbone are random projections."""
        del network, pixels, seed
        logger.warning("model.weights = none: the frozen backbone stays random")

    def fetch(self, backbone: str, tag: str) -> StateDict:
        """Return the published weights of the backbone: timm's `tag`, or a revision on the hub."""
        if hf_backbone.is_named(backbone):
            return hf_backbone.fetch(backbone, tag)
        return fetch_weights((backbone or self.timm_name).split(".")[0], tag)

    def load_pretrained(self, network: nn.Module, state: StateDict, origin: str) -> None:
        """Load `state` into the backbone; position embeddings are resampled."""
        assert isinstance(network, Frozen)
        if isinstance(network.backbone, hf_backbone.Backbone):
            state = hf_backbone.tensors(state)
        elif isinstance(network.backbone, VisionTransformer):
            state = checkpoint_filter_fn(state, network.backbone)
        load_matching(network.backbone, state, (), origin)


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = values
    return red, green, blue
