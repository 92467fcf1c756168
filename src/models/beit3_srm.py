"""BEiT-3 on statistics of noise residuals: small, and it sees what it is too small to learn.

Source: BEiT-3's vision branch (shared/beit3.py) and the spatial rich model's statistics
(shared/srm_statistics.py). Differs: a patch is embedded by its statistics instead of its pixels,
and the last layer sees a hidden layer on the statistics of the whole crop beside the transformer's
features; all are trained together. From pixels, a transformer of this size needs far more images
than a CPU can show it in minutes before it counts residuals as well as they are counted here.
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from src.core.cli import InputError
from src.models.shared.beit3 import BASE, Beit3, start_blocks, whitening
from src.models.shared.blueprint import Blueprint, DetectorConfig
from src.models.shared.srm_statistics import CoOccurrences, Statistics

_WIDTH = 192
_PATCH = 16  # pixels a side: smaller ones have too few residuals to count
_AT_ONCE = 64  # images whose statistics are computed at a time to start from


class WhitenedStatistics(nn.Module):
    """Normalised pixels -> their statistics, whitened, through one layer."""

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, statistics: CoOccurrences | Statistics, config: DetectorConfig) -> None:
        """Leave the statistics as they are until `start` has seen some."""
        super().__init__()
        for name, channels in (("mean", config.mean), ("std", config.std)):
            levels = 255 * torch.tensor(channels).view(3, 1, 1)
            self.register_buffer(name, levels, persistent=False)
        self.statistics = statistics
        # Whitening, no layer to learn: the optimiser would need far larger steps for the faint
        # directions than for the strong ones.
        self.register_buffer("weight", torch.eye(statistics.dims))
        self.register_buffer("bias", torch.zeros(statistics.dims))
        self.layer = nn.Linear(statistics.dims, _WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (B, width) of pixels (B, 3, H, W)."""
        features: Tensor = self.layer(linear(self.seen(pixels), self.weight, self.bias))
        return features

    @torch.no_grad()  # counts have no gradient
    def seen(self, pixels: Tensor) -> Tensor:
        """Return the statistics (B, dims) of the grey levels that `pixels` were made of."""
        statistics: Tensor = self.statistics(pixels * self.std + self.mean)
        return statistics

    @torch.no_grad()
    def start(self, pixels: Tensor, generator: torch.Generator) -> None:
        """Whiten by the statistics of `pixels`.

        Most statistics say the same; what tells images apart lies in faint differences, which
        whitening lifts to the level of the strong ones.
        """
        rows = torch.cat([self.seen(part) for part in torch.split(pixels, _AT_ONCE)]).double()
        deviation = rows.std(0).clamp(min=1e-6)
        weight, bias = whitening(rows / deviation, len(self.bias), generator)
        self.weight.copy_(weight / deviation)
        self.bias.copy_(bias)


class PatchStatistics(WhitenedStatistics):
    """In the role of timm's `PatchEmbed`: a token for each patch, of its statistics."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens (B, patches, width) of normalised pixels (B, 3, H, W)."""
        return super().forward(patches(pixels)).view(pixels.shape[0], -1, _WIDTH)

    def start(self, pixels: Tensor, generator: torch.Generator) -> None:
        """Whiten by the statistics of the patches of `pixels`."""
        super().start(patches(pixels), generator)


def patches(pixels: Tensor) -> Tensor:
    """Return the patches (B * patches, 3, side, side) of pixels (B, 3, H, W), row by row."""
    rows = pixels.unfold(2, _PATCH, _PATCH).unfold(3, _PATCH, _PATCH)  # (B, 3, h, w, side, side)
    return rows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


class Beit3SRM(nn.Module):
    """The transformer and the statistics of the crop, and one layer on the features of both."""

    def __init__(self, transformer: VisionTransformer, config: DetectorConfig) -> None:
        """Put them together; `transformer` has no head of its own."""
        super().__init__()
        self.transformer = transformer
        self.crop = WhitenedStatistics(Statistics(), config)
        self.head = nn.Linear(transformer.num_features + _WIDTH, len(config.classes))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised pixels (B, 3, H, W)."""
        features = torch.cat([self.transformer(pixels), gelu(self.crop(pixels))], 1)
        logits: Tensor = self.head(features)
        return logits


class Beit3SRMBlueprint(Blueprint[Beit3SRM]):
    """A small BEiT-3 on statistics."""

    transformer = Beit3(BASE, patch_size=_PATCH, embed_dim=_WIDTH, depth=2, num_heads=3)

    def network(self, config: DetectorConfig, drop_path: float) -> Beit3SRM:
        """Return the network with random initialisation.

        Raises:
            InputError: the image size is no multiple of the patches, or less than two of them.
        """
        size = config.view.size
        if size < 2 * _PATCH:
            raise InputError(f"model.image_size = {size}: {config.name} needs {2 * _PATCH} or more")
        transformer = self.transformer.network(config, drop_path)
        transformer.reset_classifier(0)
        transformer.patch_embed = PatchStatistics(CoOccurrences(), config)
        return Beit3SRM(transformer, config)

    def init_weights(self, network: Beit3SRM, pixels: Tensor, seed: int) -> None:
        """Whiten what is counted, and start the blocks as those of BEiT-3 without weights."""
        generator = torch.Generator().manual_seed(seed)
        start_blocks(network.transformer, generator)
        network.crop.start(pixels, generator)
        network.transformer.patch_embed.start(pixels, generator)


BLUEPRINT = Beit3SRMBlueprint()
