"""A start from which a small network without published weights learns fine traces."""

import math

import torch
from torch import Tensor, nn

from src.models import Detector


@torch.no_grad()
def init_from_scratch(detector: Detector, images: Tensor, seed: int) -> None:
    """Give a detector without published weights a start from which it learns fine traces.

    timm's initialisation suits pretrained widths: a small network is almost linear with it and
    hardly sees high frequencies. Here the patch embedding starts as a whitening of the patches of
    `images` (B, size, size, 3), which lifts faint frequencies to the level of the strong ones, and
    the linear layers start with standard deviation 1 / sqrt(fan-in).
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in detector.network.get_submodule("blocks").modules():
        if isinstance(layer, nn.Linear):
            deviation = 1 / math.sqrt(layer.in_features)
            nn.init.trunc_normal_(layer.weight, std=deviation, generator=generator)
    projection = detector.network.get_submodule("patch_embed.proj")
    assert isinstance(projection, nn.Conv2d)
    assert projection.bias is not None
    side = projection.kernel_size[0]
    patches = nn.functional.unfold(detector.normalised(images), side, stride=side)
    rows = patches.transpose(1, 2).flatten(0, 1).double()  # (patches, 3 * side * side)
    weight, bias = _whitening(rows, projection.out_channels, generator)
    projection.weight.copy_(weight.view_as(projection.weight))
    projection.bias.copy_(bias)


def _whitening(rows: Tensor, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    mean = rows.mean(0)
    variances, components = torch.linalg.eigh((rows - mean).T.cov())
    # A floor, or the directions that JPEG has all but emptied would drown the others in noise.
    floor = 0.1 * variances.mean()
    whiten = components.T / (variances + floor).sqrt().unsqueeze(1)  # (dims, dims)
    # Fewer or more channels than dimensions: every channel is a mix of all frequencies, so none
    # is lost. A random orthogonal mix also leaves no channel with an arbitrary sign of eigh's.
    mix = torch.empty(width, len(mean), dtype=rows.dtype)
    nn.init.orthogonal_(mix, generator=generator)
    weight = mix @ whiten
    return weight, -weight @ mean
