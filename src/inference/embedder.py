"""Detector and images -> logits, and what the last layer sees, in one pass."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from src.core.arrays import Float32Array, FloatArray
from src.images.crops import Crops
from src.images.loader import WORKERS_VARIABLE, ImageSet, default_workers
from src.inference.scorer import Scorer
from src.models.shared.detector import Detector
from src.models.shared.log_odds import fake_logit

_DIGITS = 6  # of a logit: what lies below is noise of the hardware
# What a processor's caches hold of a network: with larger batches its memory is the limit, and
# the system, which maps and clears it anew for every layer.
_PIXELS_AT_ONCE = 2**16
_QUICK = 2**16  # bytes of an image that is decoded in a millisecond; its crops take several


class Embedding(NamedTuple):
    """What a detector makes of images; each is the mean over the crops of an image."""

    logits: FloatArray  # (n,) log odds of fake
    features: Float32Array  # (n, width)


class Embedder(nn.Module):
    """A detector that gives its features beside its logits; for prediction, without gradients.

    On a processor it takes a batch apart and runs the parts side by side, in as many threads as
    there are cores for: small products of matrices gain less from threads of their own. What comes
    out does not depend on how many there are.
    """

    def __init__(self, detector: Detector) -> None:
        """Watch the last layer of `detector`, whatever its network is."""
        super().__init__()
        self.detector = detector
        self.classes = len(detector.config.classes)
        self._seen = threading.local()
        self._threads = ThreadPoolExecutor(_parallel_parts())
        last_layer(detector.network, self.classes).register_forward_pre_hook(self._see)

    def _see(self, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
        self._seen.features = inputs[0].flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits and features side by side, (B, classes + width), of uint8 crops."""
        if images.device.type != "cpu":
            return self._both(images)
        _, height, width, _ = images.shape
        parts = torch.split(images, max(1, _PIXELS_AT_ONCE // (height * width)))
        return torch.cat(list(self._threads.map(self._both, parts)))

    @torch.no_grad()  # each thread has a switch of its own
    def _both(self, images: Tensor) -> Tensor:
        logits = self.detector(images)
        return torch.cat([logits, self._seen.features.to(logits.dtype)], dim=1)

    def embed(self, images: Sequence[Crops]) -> Embedding:
        """Return logits and features of `images`, as many crops of each, (crops, H, W, 3)."""
        of_crops = self._of_crops(np.concatenate(images))
        return self.split(of_crops.view(len(images), len(images[0]), -1).mean(1))

    def _of_crops(self, crops: Crops) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(self.detector.mean.device)
        both: Tensor = self(pixels)
        return both.float().cpu()

    def logits(self, crops: Crops) -> Float32Array:
        """Return the logits of crops, (B, classes)."""
        of_classes: Float32Array = self._of_crops(crops)[:, : self.classes].numpy()
        return of_classes

    def split(self, both: Tensor) -> Embedding:
        """Return what `forward` gave, the mean over crops, (n, classes + width), on the CPU."""
        logits = fake_logit(both[:, : self.classes].numpy()).round(_DIGITS)
        return Embedding(logits, both[:, self.classes :].float().numpy())


def _parallel_parts() -> int:
    # Processes of one machine share its cores, and so do the threads of each part.
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, (os.cpu_count() or 1) // processes // torch.get_num_threads())


def _workers(images: ImageSet, device: torch.device) -> int:
    """Return the number of loader processes: few where they would take cores from the network."""
    is_quick = images.lengths.mean() < _QUICK
    if device.type != "cpu" or os.environ.get(WORKERS_VARIABLE) or not is_quick:
        return default_workers()
    return default_workers() // 4


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
        score = Scorer(images, batch_size, accelerator, _workers(images, accelerator.device))
        return embedder.split(score(_Counting(embedder, bar, crops)))
