"""Small detectors with random weights, and random images for them."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from src.models.shared.detector import Detector, build_detector
from tests.helpers.make_training import MODEL

CLASSES = ("real", "fake")


def random_images(count: int = 4, size: int = 32) -> Tensor:
    """Return noise, (count, size, size, 3), uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def random_detector(size: int = 32, classes: tuple[str, ...] = CLASSES) -> Detector:
    """Return a BEiT-3 whose weights are all drawn, ready to predict."""
    detector = build_detector(replace(MODEL, image_size=size), classes, 1)
    for weight in detector.parameters():
        nn.init.normal_(weight, std=0.2)
    return detector.eval()
