"""Generators whose weights come inside a package: a photograph in, a generated image out."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import ncnn
import numpy as np

from src.core.arrays import UInt8Array
from src.sources.synthesis.impairment import resize

Generator = Callable[[UInt8Array], UInt8Array]

SCALE = 4  # of the super-resolution network


class RealEsrgan:
    """A photograph at a quarter of its size, restored by Real-ESRGAN.

    Source: Wang et al. 2021, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
    Synthetic Data", arXiv:2107.10833.
    """

    def __init__(self, structure: bytes, weights: bytes) -> None:
        """Load the two files of an ncnn model."""
        self.network = ncnn.Net()
        # More threads are slower on images this small; one also keeps the order of every sum.
        self.network.opt.num_threads = 1
        self.network.opt.use_vulkan_compute = False
        # From files only: what ncnn reads from memory, it goes on pointing to.
        with tempfile.TemporaryDirectory() as name:
            structure_file, weights_file = Path(name) / "param", Path(name) / "bin"
            structure_file.write_bytes(structure)
            weights_file.write_bytes(weights)
            _check(self.network.load_param(str(structure_file)))
            _check(self.network.load_model(str(weights_file)))

    def __call__(self, image: UInt8Array) -> UInt8Array:
        """Return `image` (H, W, 3), square, sides divisible by four, shrunk and restored."""
        small = resize(image, len(image) // SCALE)
        blob = np.ascontiguousarray(small.transpose(2, 0, 1), dtype=np.float32) / 255  # (3, H, W)
        extractor = self.network.create_extractor()
        extractor.input("data", ncnn.Mat(blob).clone())  # a Mat alone borrows numpy's memory
        code, restored = extractor.extract("output")
        _check(code)
        pixels = np.asarray(restored).transpose(1, 2, 0)  # (H, W, 3)
        result: UInt8Array = np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)
        return result


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"ncnn reports error {code}")
