"""A convolutional network of timm as a detector."""

import timm
from torch import nn

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, DetectorConfig
from src.models.shared.pretrained import StateDict, fetch_weights, load_matching

SMALLEST = 32  # pixels: what the strides of these networks leave one position of


class TimmNetwork(Blueprint[nn.Module]):
    """A network of timm with a new head; ImageNet's normalisation."""

    def __init__(self, timm_name: str) -> None:
        """Take timm's network of that name."""
        self.timm_name = timm_name

    def network(self, config: DetectorConfig, drop_path: float) -> nn.Module:
        """Return timm's network with its random initialisation."""
        if config.view.size < SMALLEST:
            raise InputError(
                f"model.image_size = {config.view.size}: {config.name} needs {SMALLEST} or more"
            )
        network: nn.Module = timm.create_model(
            self.timm_name, num_classes=len(config.classes), drop_path_rate=drop_path
        )
        return network

    def fetch(self, backbone: str, tag: str) -> StateDict:  # noqa: ARG002 - one network only
        """Return the published weights `tag`."""
        return fetch_weights(self.timm_name, tag)

    def load_pretrained(self, network: nn.Module, state: StateDict, origin: str) -> None:
        """Load `state` into all but the head."""
        classifier = timm.get_pretrained_cfg_value(self.timm_name, "classifier")
        load_matching(network, state, (f"{classifier}.",), origin)
