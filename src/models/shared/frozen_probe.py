"""A frozen backbone of timm or transformers, and a head in closed form on its features."""

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
from src.models.shared.blueprint import (
    Blueprint,
    Channels,
    ClosedFormHead,
    DetectorConfig,
    FrozenNetwork,
)
from src.models.shared.pretrained import StateDict, fetch_weights, load_matching, without_prefix

logger = logging.getLogger(__name__)

_ITERATIONS = 1000
_TEMPERATURE = 100.0  # of cosines, as CLIP scales them


class LinearHead(nn.Linear, ClosedFormHead):
    """Logistic regression on the features."""

    settings = (0.001, 0.01, 0.1, 1.0)  # C of scikit-learn, on standardised features

    def __init__(self, dims: int, classes: int) -> None:
        """Start with zeros."""
        super().__init__(dims, classes)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

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
        self.weight.copy_(weight)
        self.bias.copy_(bias - weight @ mean)


class NeighbourHead(ClosedFormHead):
    """Features of known images; a class's logit is the mean cosine to its nearest of them."""

    settings = (1, 3, 5, 9)  # neighbours, as in UnivFD's tables
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
        self.register_load_state_dict_pre_hook(self._resize)  # type: ignore[no-untyped-call]

    def solve(self, features: Tensor, targets: Tensor, setting: float) -> None:
        """Remember these images and no others; look at `setting` neighbours of each class."""
        device = self.known.device
        self.known = normalize(features, dim=1).to(device)
        self.targets = targets.to(device)
        self.neighbours = torch.tensor(int(setting), device=device)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes) of features (B, dims)."""
        cosines = normalize(features, dim=1) @ self.known.T  # (B, images)
        logits = []
        for target in range(self.classes):
            mine = cosines[:, self.targets == target]
            nearest = mine.topk(min(int(self.neighbours), mine.shape[1]), 1).values
            logits.append(nearest.mean(1))
        return _TEMPERATURE * torch.stack(logits, 1)

    def _resize(self, _: nn.Module, state: StateDict, prefix: str, *_rest: object) -> None:
        # How many images there are is known only when their features are loaded.
        for name in ("known", "targets"):
            if (found := state.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(found, device=self.known.device))


class FrozenProbe(Blueprint[FrozenNetwork]):
    """A head in closed form on a frozen backbone of timm or transformers."""

    def __init__(self, backbone: str, head: type[LinearHead] | type[NeighbourHead]) -> None:
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

    def network(self, config: DetectorConfig, drop_path: float) -> FrozenNetwork:  # noqa: ARG002
        """Return the frozen backbone, random until weights are loaded, and the empty head.

        Raises:
            InputError: timm has no such backbone.
        """
        backbone = self._build(config.backbone, config.view.size)
        return FrozenNetwork(backbone, self.head(backbone.num_features, len(config.classes)))

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

    def init_weights(self, network: FrozenNetwork, pixels: Tensor, seed: int) -> None:  # noqa: ARG002
        """Warn that features of a random backbone are random projections."""
        logger.warning("model.weights = none: the frozen backbone stays random")

    def fetch(self, backbone: str, tag: str) -> StateDict:
        """Return the published weights of the backbone: timm's `tag`, or a revision on the hub."""
        if hf_backbone.is_named(backbone):
            return hf_backbone.fetch(backbone, tag)
        return fetch_weights((backbone or self.timm_name).split(".")[0], tag)

    def load_pretrained(self, network: FrozenNetwork, state: StateDict, origin: str) -> None:
        """Load `state` into the backbone; position embeddings are resampled."""
        if isinstance(network.backbone, hf_backbone.Backbone):
            state = hf_backbone.tensors(state)
        elif isinstance(network.backbone, VisionTransformer):
            named = without_prefix(network.backbone, state, origin)
            state = checkpoint_filter_fn(named, network.backbone)
        load_matching(network.backbone, state, (), origin)


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = values
    return red, green, blue
