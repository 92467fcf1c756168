"""NPR: what neighbouring pixels differ by, which up-sampling layers leave a pattern in.

Source: Tan et al. 2024, arXiv:2312.10461: an image minus its half-size nearest-neighbour copy
enlarged again, through the first two stages of a ResNet-50. Differs: trained by this project's
recipe on its crops, with the classes' softmax for a single sigmoid.
"""

import timm
from torch import Tensor, nn
from torch.nn.functional import interpolate

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, DetectorConfig

_STEM, _WIDTH = 64, 512  # channels of ResNet-50's stem and of its second stage
_GAIN = 2 / 3  # of the original


class Relations(nn.Module):
    """Replaces pixels by their differences from the first pixel of each 2 x 2 block."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, 3, H, W) for pixels of that shape."""
        halved = interpolate(pixels, scale_factor=0.5, mode="nearest")
        return _GAIN * (pixels - interpolate(halved, scale_factor=2.0, mode="nearest"))


class NPR(Blueprint[nn.Sequential]):
    """The relations, and half a ResNet-50 on them."""

    def network(self, config: DetectorConfig, drop_path: float) -> nn.Sequential:
        """Return the network with timm's random initialisation."""
        if config.view.size % 2:
            raise InputError(f"model.image_size = {config.view.size}: npr needs an even number")
        resnet = timm.create_model(
            "resnet50", num_classes=len(config.classes), drop_path_rate=drop_path
        )
        resnet.conv1 = nn.Conv2d(3, _STEM, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        resnet.layer3 = resnet.layer4 = nn.Identity()
        resnet.fc = nn.Linear(_WIDTH, len(config.classes))
        return nn.Sequential(Relations(), resnet)


BLUEPRINT = NPR()
