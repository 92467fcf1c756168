"""BEiT-3's vision branch, as its authors fine-tune it; and a start for small ones without weights.

Source: microsoft/unilm, beit3 (Wang et al. 2022, arXiv:2208.10442), through timm.
"""

import math
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, DetectorConfig
from src.models.shared.pretrained import StateDict, fetch_weights, load_matching

BASE, LARGE = "beit3_base_patch16_224", "beit3_large_patch16_224"


class Beit3(Blueprint):
    """A size of BEiT-3."""

    def __init__(self, timm_name: str, patch_size: int = 16, **shape: int) -> None:
        """Take timm's model; `patch_size` and `shape` shrink it, and then nothing is published."""
        self.timm_name, self.patch_size = timm_name, patch_size
        self.shape = shape

    def network(self, config: DetectorConfig, drop_path: float) -> VisionTransformer:
        """Return timm's network with its random initialisation.

        Raises:
            InputError: the image size is no multiple of the patch size.
        """
        size = config.view.size
        if size % self.patch_size:
            raise InputError(
                f"model.image_size = {size}: {config.name} needs a multiple of {self.patch_size}"
            )
        options: dict[str, Any] = {"patch_size": self.patch_size, **self.shape, "img_size": size}
        network = timm.create_model(
            self.timm_name,
            num_classes=len(config.classes),
            drop_path_rate=drop_path,
            **options,
        )
        assert isinstance(network, VisionTransformer)
        return network

    def fetch(self, backbone: str, tag: str) -> StateDict:
        """Return the published weights `tag`."""
        if self.shape:
            return super().fetch(backbone, tag)
        return fetch_weights(self.timm_name, tag)

    def load_pretrained(self, network: nn.Module, state: StateDict, origin: str) -> None:
        """Load `state`, in timm's or in the official layout; position embeddings are resampled."""
        assert isinstance(network, VisionTransformer)
        # Official fine-tuning replaces the final norm of the pre-trained encoder with the head:
        # a file may have it or not.
        body = checkpoint_filter_fn(state, network)
        norm = () if "fc_norm.weight" in body else ("fc_norm.",)
        load_matching(network, body, ("head.", *norm), origin)
        # The head starts near zero, so that the first steps do not tear good features apart.
        # Source: BEiT-3's fine-tuning code, `init_scale`.
        with torch.no_grad():
            network.get_parameter("head.weight").mul_(0.001)

    def fast_inference(self, network: nn.Module) -> nn.Module:
        """Return a `_Quick` of the network."""
        return _Quick(network)

    @torch.no_grad()
    def init_weights(self, network: nn.Module, pixels: Tensor, seed: int) -> None:
        """Give a network without published weights a start from which it learns fine traces.

        timm's initialisation suits pretrained widths: a small network is almost linear with it
        and hardly sees high frequencies. Here the patch embedding starts as a whitening of the
        patches of `pixels` (B, 3, size, size), which lifts faint frequencies to the level of the
        strong ones, and the linear layers start with standard deviation 1 / sqrt(fan-in).
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in network.get_submodule("blocks").modules():
            if isinstance(layer, nn.Linear):
                deviation = 1 / math.sqrt(layer.in_features)
                nn.init.trunc_normal_(layer.weight, std=deviation, generator=generator)
        projection = network.get_submodule("patch_embed.proj")
        assert isinstance(projection, nn.Conv2d)
        assert projection.bias is not None
        side = projection.kernel_size[0]
        patches = nn.functional.unfold(pixels, side, stride=side)
        rows = patches.transpose(1, 2).flatten(0, 1).double()  # (patches, 3 * side * side)
        weight, bias = _whitening(rows, projection.out_channels, generator)
        projection.weight.copy_(weight.view_as(projection.weight))
        projection.bias.copy_(bias)


class _Quick(nn.Module):
    """The network without what no logit needs, and its patches by a product of matrices.

    The head sees the mean over the patches, and a mean passes through a linear layer: the last one,
    of the widest features, sees a single mean instead of every patch.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        network: Any = self.network  # timm has no types
        tokens = network._pos_embed(_patches(network.patch_embed.proj, pixels))
        *blocks, last = network.blocks
        for block in blocks:
            tokens = block(tokens)
        tokens = tokens + last.attn(last.norm1(tokens))
        hidden = last.mlp.norm(last.mlp.act(last.mlp.fc1(last.norm2(tokens))))
        mean, mean_hidden = (part[:, 1:].mean(1) for part in (tokens, hidden))  # no class token
        logits: Tensor = network.head(network.fc_norm(mean + last.mlp.fc2(mean_hidden)))
        return logits


def _patches(projection: nn.Conv2d, pixels: Tensor) -> Tensor:
    """Return what `projection` makes of patches that do not overlap, (B, patches, channels)."""
    side = projection.kernel_size[0]
    # (B, 3, rows, columns, side, side); the channels of a pixel are next to each other in memory.
    patches = pixels.unfold(2, side, side).unfold(3, side, side)
    rows = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    weight = projection.weight.permute(0, 2, 3, 1).flatten(1)
    return nn.functional.linear(rows, weight, projection.bias)


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
