"""Detector and images -> logits, and what the last layer sees, in one pass."""

from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from src.images import ImageSet, default_workers
from src.models import Detector
from src.scoring import Scorer, fake_logit

_DIGITS = 6  # of a logit: what lies below is noise of the hardware
# What a processor's caches hold of a network: with larger batches its memory is the limit, and
# the system, which maps and clears it anew for every layer.
_PIXELS_AT_ONCE = 2**17


class Embedding(NamedTuple):
    """What a detector makes of images; each is the mean over the crops of an image."""

    logits: NDArray[np.float64]  # (n,) log odds of fake
    features: NDArray[np.float32]  # (n, width)


class Embedder(nn.Module):
    """A detector that gives its features beside its logits."""

    def __init__(self, detector: Detector) -> None:
        """Watch the last layer of `detector`, whatever its network is."""
        super().__init__()
        self.detector = detector
        self.classes = len(detector.identity.classes)
        self._seen = torch.empty(0)
        last_layer(detector.network, self.classes).register_forward_pre_hook(self._see)

    def _see(self, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
        self._seen = inputs[0].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits and features side by side, (B, classes + width), of uint8 crops."""
        crops, height, width, _ = images.shape
        on_cpu = images.device.type == "cpu"
        at_once = max(1, _PIXELS_AT_ONCE // (height * width)) if on_cpu else crops
        return torch.cat([self._both(part) for part in torch.split(images, at_once)])

    def _both(self, images: Tensor) -> Tensor:
        logits = self.detector(images)
        return torch.cat([logits, self._seen.to(logits.dtype)], dim=1)

    def split(self, both: Tensor) -> Embedding:
        """Return what `forward` gave, the mean over crops, (n, classes + width), on the CPU."""
        logits = fake_logit(both[:, : self.classes].double()).numpy().round(_DIGITS)
        return Embedding(logits, both[:, self.classes :].float().numpy())


class _Counting(nn.Module):
    def __init__(self, inner: nn.Module, bar: "tqdm[Any]", crops: int) -> None:
        super().__init__()
        self.inner, self.bar, self.crops = inner, bar, crops

    def forward(self, images: Tensor) -> Tensor:
        self.bar.update(len(images) // self.crops)
        result: Tensor = self.inner(images)
        return result


def last_layer(network: nn.Module, classes: int) -> nn.Module:
    """Return the layer of `network` that turns features into the logits of `classes`."""
    linear = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    if linear:
        return linear[-1]
    head: nn.Module = network.get_submodule("head")
    return head


def embed(
    detector: Detector, images: ImageSet, batch_size: int, accelerator: Accelerator, name: str
) -> Embedding:
    """Return logits and features of `images`; the progress bar calls them `name`.

    Every process gets all of them, bit for bit the same.
    """
    embedder = Embedder(detector.to(accelerator.device))
    crops = len(images[0].images)
    share = -(-len(images) // accelerator.num_processes)
    hidden = not accelerator.is_main_process
    with tqdm(total=share, desc=name, unit=" images", unit_scale=True, disable=hidden) as bar:
        score = Scorer(images, batch_size, accelerator, default_workers())
        return embedder.split(score(_Counting(embedder, bar, crops)))
