"""Generators whose weights come inside a package: a photograph in, a generated image out."""

from collections.abc import Callable

import numpy as np
import torch

from src.core.arrays import UInt8Array
from src.sources.synthesis.impairment import resize
from src.sources.synthesis.ncnn_model import Network

Generator = Callable[[UInt8Array], UInt8Array]

SCALE = 4  # of the super-resolution network


class RealEsrgan:
    """A photograph at a quarter of its size, restored by Real-ESRGAN.

    Source: Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
    Synthetic Data", arXiv:2107.10833.
    """

    def __init__(self, structure: bytes, weights: bytes) -> None:
        """Load the two files of an ncnn model."""
        # One thread keeps the order of every sum; the worker processes fill the cores.
        torch.set_num_threads(1)
        self.network = Network(structure, weights)

    def __call__(self, image: UInt8Array) -> UInt8Array:
        """Return `image` (H, W, 3), square, sides divisible by four, shrunk and restored."""
        small = resize(image, len(image) // SCALE)
        blob = torch.tensor(small).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        pixels = self.network(blob)[0].permute(1, 2, 0).numpy()  # (H, W, 3)
        result: UInt8Array = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
        return result
