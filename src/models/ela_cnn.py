"""Error-level analysis: what one more JPEG compression changes, through a small CNN.

Source: agusgun/FakeImageDetector: the difference to the image at JPEG quality 90, stretched to
the full range, through two 5 x 5 convolutions, one pooling and two dense layers. Differs: the
difference is taken of the crop that the detector sees, not of the whole image before a resize; an
average over an 8 x 8 grid before the dense layers keeps them small.
"""

import math

import numpy as np
import simplejpeg
from torch import nn

from src.core.cli import InputError
from src.images.crops import Crops
from src.images.decode import RGBImage
from src.models.shared.blueprint import Blueprint, DetectorConfig

_QUALITY = 90
_CHANNELS, _HIDDEN, _GRID = 32, 256, 8
_SMALLEST = 16  # pixels: the convolutions eat eight


class ELA(Blueprint[nn.Sequential]):
    """Error levels in the loader, two convolutions on them."""

    not_in_network = "it sees what another JPEG compression changes, which ONNX cannot compute"

    def preprocess(self, crops: Crops) -> Crops:
        """Return the error levels of each crop, stretched so that the largest is 255."""
        return np.stack([_error_levels(crop) for crop in crops])

    def network(self, config: DetectorConfig, drop_path: float) -> nn.Sequential:  # noqa: ARG002
        """Return the network, which has dropout of its own."""
        size = config.view.size
        if size < _SMALLEST:
            raise InputError(f"model.image_size = {size}: ela_cnn needs {_SMALLEST} or more")
        side = (size - 8) // 2
        window = math.ceil(side / _GRID)
        return nn.Sequential(
            nn.Conv2d(3, _CHANNELS, 5),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.AvgPool2d(window),
            nn.Flatten(),
            nn.Linear(_CHANNELS * (side // window) ** 2, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(_HIDDEN, len(config.classes)),
        )


def _error_levels(crop: RGBImage) -> RGBImage:
    again = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(crop, quality=_QUALITY))
    levels = np.abs(crop.astype(np.int16) - again)
    stretched: RGBImage = (levels * (255 / max(1, levels.max()))).astype(np.uint8)
    return stretched


BLUEPRINT = ELA()
