"""Face X-ray: finds the boundary along which two images were blended.

Source: Li et al. 2020, arXiv:1912.13458; blends of an image with itself after Shiohara and
Yamasaki 2022, arXiv:2204.08376. Every update makes its blended images from the real ones of its
batch, so the boundaries are known without anybody's annotation. Differs: ellipses stand for the
hull of facial landmarks, which nothing here detects; a small CNN for HRNet; the data set's own
fakes teach the class, and only the class: nobody knows their boundaries. Meant for faces, and for
swaps: a picture made in one piece has no boundary at all.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    affine_grid,
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    grid_sample,
)

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, DetectorConfig, full_precision

_STRIDE = 4  # of the boundary map
_WIDTHS = 32, 64, 96, 96
_MAP_WEIGHT = 10.0  # of the map's loss beside the class's
_SHIFT, _ZOOM, _GAIN, _OFFSET = 0.03, 0.05, 0.15, 0.2  # largest differences of a blended copy


class BoundaryNet(nn.Module):
    """Convolutions -> a map of boundaries, and from both the class."""

    def __init__(self, classes: int) -> None:
        """Build with torch's random initialisation."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, stride in zip(_WIDTHS, (1, 2, 2, 1), strict=True):
            layers += [
                nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.trunk = nn.Sequential(*layers)
        self.boundary = nn.Conv2d(channels, 1, 1)
        self.head = nn.Linear(channels + 2, classes)

    def maps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and logits of the boundary (B, H / 4, W / 4)."""
        features = self.trunk(pixels)
        boundary = self.boundary(features).squeeze(1)
        found = boundary.sigmoid().flatten(1)
        pooled = torch.cat([features.mean((2, 3)), found.mean(1, True), found.amax(1, True)], 1)
        return self.head(pooled), boundary

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return self.maps(pixels)[0]


class XRay(Blueprint[BoundaryNet]):
    """The network, and a loss that blends."""

    def network(self, config: DetectorConfig, drop_path: float) -> BoundaryNet:  # noqa: ARG002
        """Return the network with torch's random initialisation."""
        if config.view.size % _STRIDE:
            raise InputError(
                f"model.image_size = {config.view.size}: xray needs a multiple of {_STRIDE}"
            )
        return BoundaryNet(len(config.classes))

    def loss(
        self, network: BoundaryNet, pixels: Tensor, targets: Tensor, label_smoothing: float
    ) -> Tensor:
        """Return the loss of the classes, and of the boundaries of reals and blended reals."""
        real = targets == 0
        if not real.any():
            return super().loss(network, pixels, targets, label_smoothing)
        # Half precision would move the copy by more than some of the shifts.
        with full_precision(pixels):
            blended, boundaries = blend(pixels[real])
        logits, maps = network.maps(torch.cat([pixels, blended]))
        logits, maps = logits.float(), maps.float()
        loss = cross_entropy(logits[: len(pixels)], targets, label_smoothing=label_smoothing)
        # A blended image is a fake of no class in particular: 1 - P(real) is what counts.
        odds = logits[len(pixels) :]
        real_logits, fake_logits = odds[:, 0], odds[:, 1:].logsumexp(1)
        fake_loss = torch.nn.functional.softplus(real_logits - fake_logits).mean()
        clean = maps[: len(pixels)][real]
        map_loss = binary_cross_entropy_with_logits(
            torch.cat([clean, maps[len(pixels) :]]),
            torch.cat([torch.zeros_like(clean), boundaries]),
        )
        return loss + fake_loss + _MAP_WEIGHT * map_loss


@torch.no_grad()
def blend(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with a shifted, recoloured ellipse of themselves, and where its edge lies.

    For (n, 3, H, W) the same, and (n, H / 4, W / 4) in [0, 1]; draws from torch's CPU generator.
    """
    count, _, height, width = pixels.shape
    draw = torch.rand(count, 12).to(pixels.device)
    signed = 2 * draw - 1
    gain = 1 + _GAIN * signed[:, 0:3].reshape(count, 3, 1, 1)
    offset = _OFFSET * signed[:, 3:6].reshape(count, 3, 1, 1)
    zoom = 1 + _ZOOM * signed[:, 6]
    zeros = torch.zeros_like(zoom)
    moves = torch.stack(
        [zoom, zeros, _SHIFT * signed[:, 7], zeros, zoom, _SHIFT * signed[:, 8]], 1
    ).reshape(count, 2, 3)
    grid = affine_grid(moves, [count, 3, height, width], align_corners=False)
    copy = grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    mask = _ellipses(draw[:, 9:12], signed[:, 7:9], height, width)  # (n, 1, H, W)
    mixed = mask * (copy * gain + offset) + (1 - mask) * pixels
    boundary = 4 * mask * (1 - mask)  # Source: Face X-ray, equation 2
    return mixed, avg_pool2d(boundary, _STRIDE).squeeze(1)


def _ellipses(shape: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """Return soft masks (n, 1, H, W): half-axes and edge from `shape`, in the middle third."""
    across = torch.linspace(-1, 1, width, device=shape.device).reshape(1, 1, width)
    down = torch.linspace(-1, 1, height, device=shape.device).reshape(1, height, 1)
    axes = (0.3 + 0.4 * shape[:, 0:2]).unsqueeze(2).unsqueeze(3)  # (n, 2, 1, 1)
    middle = (centre / 3).unsqueeze(2).unsqueeze(3)
    distance = torch.sqrt(
        ((across - middle[:, 0]) / axes[:, 0]) ** 2 + ((down - middle[:, 1]) / axes[:, 1]) ** 2
    )
    sharpness = 4 * math.pi * (1 + 3 * shape[:, 2]).reshape(-1, 1, 1)
    return torch.sigmoid(sharpness * (1 - distance)).unsqueeze(1)


BLUEPRINT = XRay()
