"""BEiT-3's vision branch, as its authors fine-tune it; and a start for small ones without weights.

Source: microsoft/unilm, beit3 (Wang et al. 2022, arXiv:2208.10442), through timm.
"""

import math

import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, DetectorConfig
from src.models.shared.pretrained import StateDict, fetch_weights, load_matching, without_prefix

BASE, LARGE = "beit3_base_patch16_224", "beit3_large_patch16_224"


class Beit3(Blueprint[VisionTransformer]):
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
        network: VisionTransformer = timm.model_entrypoint(self.timm_name)(
            num_classes=len(config.classes),
            drop_path_rate=drop_path,
            img_size=size,
            patch_size=self.patch_size,
            **self.shape,
        )
        return network

    def fetch(self, backbone: str, tag: str) -> StateDict:
        """Return the published weights `tag`."""
        if self.shape:
            return super().fetch(backbone, tag)
        return fetch_weights(self.timm_name, tag)

    def load_pretrained(self, network: VisionTransformer, state: StateDict, origin: str) -> None:
        """Load `state`, in timm's or in the official layout; position embeddings are resampled."""
        # Official fine-tuning replaces the final norm of the pre-trained encoder with the head:
        # a file may have it or not.
        body = checkpoint_filter_fn(without_prefix(network, state, origin), network)
        norm = () if "fc_norm.weight" in body else ("fc_norm.",)
        load_matching(network, body, ("head.", *norm), origin)
        # The head starts near zero, so that the first steps do not tear good features apart.
        # Source: BEiT-3's fine-tuning code, `init_scale`.
        with torch.no_grad():
            network.get_parameter("head.weight").mul_(0.001)

    @torch.no_grad()
    def init_weights(self, network: VisionTransformer, pixels: Tensor, seed: int) -> None:
        """Initialise a network without published weights so that it learns fine traces.

        timm's initialisation suits pretrained widths: a small network is almost linear with it
        and hardly sees high frequencies. Here the patch embedding starts as a whitening of the
        patches of `pixels` (B, 3, size, size), which lifts faint frequencies to the level of the
        strong ones, and the linear layers start with standard deviation 1 / sqrt(fan-in).
        """
        generator = torch.Generator().manual_seed(seed)
        start_blocks(network, generator)
        projection = network.get_parameter("patch_embed.proj.weight")  # (width, 3, side, side)
        side = self.patch_size
        patches = nn.functional.unfold(pixels, side, stride=side)
        rows = patches.transpose(1, 2).flatten(0, 1).double()  # (patches, 3 * side * side)
        weight, bias = whitening(rows, len(projection), generator)
        projection.copy_(weight.view_as(projection))
        network.get_parameter("patch_embed.proj.bias").copy_(bias)


@torch.no_grad()
def start_blocks(network: VisionTransformer, generator: torch.Generator) -> None:
    """Initialise the linear layers of the blocks with standard deviation 1 / sqrt(fan-in)."""
    for layer in network.get_submodule("blocks").modules():
        if isinstance(layer, nn.Linear):
            deviation = 1 / math.sqrt(layer.in_features)
            nn.init.trunc_normal_(layer.weight, std=deviation, generator=generator)


def whitening(rows: Tensor, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weight (width, dims) and bias (width,) of a layer that whitens `rows` (n, dims)."""
    mean = rows.mean(0)
    variances, components = torch.linalg.eigh((rows - mean).T.cov())
    # A floor, or the directions that are all but empty (JPEG's) would drown the others in noise.
    floor = 0.1 * variances.mean()
    whiten = components.T / (variances + floor).sqrt().unsqueeze(1)  # (dims, dims)
    # Fewer or more channels than dimensions: every channel is a mix of all frequencies, so none
    # is lost. A random orthogonal mix also leaves no channel with an arbitrary sign of eigh's.
    mix = torch.empty(width, len(mean), dtype=rows.dtype)
    nn.init.orthogonal_(mix, generator=generator)
    weight = mix @ whiten
    return weight, -weight @ mean
