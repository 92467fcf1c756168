"""Histograms of block-DCT coefficients, through a small CNN.

Source: in the spirit of the DCT stream of CAT-Net (Kwon et al. 2022, arXiv:2108.12947) and of the
histogram networks before it (Barni et al. 2017, doi:10.1016/j.jvcir.2017.09.003). Differs: the
coefficients are computed from the pixels' luma, because crops and other formats have no JPEG
stream to read them from; a histogram for each of the 64 frequencies replaces the binary volume,
so it says whether an image is suspicious, not where.
"""

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn.functional import conv2d

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, Channels, DetectorConfig, full_precision

_SIDE = 8  # of a block, as in JPEG
_LIMIT = 16  # of a coefficient, in grey levels: what lies beyond shares the outer bins
_LUMA = 0.299, 0.587, 0.114  # ITU-R BT.601, as in JPEG
_CHANNELS = 64


class Histograms(nn.Module):
    """Counts the rounded coefficients of all blocks, for every frequency."""

    basis: Tensor

    def __init__(self) -> None:
        """Compute the 64 patterns; they are no weights."""
        super().__init__()
        rows = dct(np.eye(_SIDE), axis=0, norm="ortho")  # (frequency, position)
        patterns = np.einsum("ux,vy->uvxy", rows, rows).reshape(-1, 1, _SIDE, _SIDE)
        self.register_buffer("basis", torch.tensor(patterns).float(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the share of each value, (B, 64, 2 * limit + 1), of RGB (B, 3, H, W) in 0..255."""
        # In half precision there are no units left to round coefficients to.
        with full_precision(pixels):
            luma = torch.einsum("bchw,c->bhw", pixels, pixels.new_tensor(_LUMA)).unsqueeze(1)
            coefficients = conv2d(luma, self.basis.to(luma.dtype), stride=_SIDE).flatten(2)
        values = coefficients.round().clamp(-_LIMIT, _LIMIT)  # (B, 64, blocks)
        bins = range(-_LIMIT, _LIMIT + 1)
        return torch.stack([(values == value).float().mean(2) for value in bins], 2)


class DCT(Blueprint[nn.Sequential]):
    """The histograms, and convolutions along them."""

    def normalization(self, backbone: str) -> tuple[Channels, Channels]:  # noqa: ARG002
        """Return what leaves grey levels as they are: coefficients have JPEG's unit then."""
        unit = 1 / 255
        return (0.0, 0.0, 0.0), (unit, unit, unit)

    def network(self, config: DetectorConfig, drop_path: float) -> nn.Sequential:  # noqa: ARG002
        """Return the network with torch's random initialisation."""
        size = config.view.size
        if size < _SIDE:
            raise InputError(f"model.image_size = {size}: dct_cnn needs {_SIDE} or more")
        length = (2 * _LIMIT + 1) // 4
        return nn.Sequential(
            Histograms(),
            nn.BatchNorm1d(_SIDE**2),
            nn.Conv1d(_SIDE**2, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(_CHANNELS * length, len(config.classes)),
        )


BLUEPRINT = DCT()
