"""What a probe sees of an image: file statistics, mean colour, a thumbnail, the spectrum.

A module of its own, not part of the stage: worker processes import it by its name.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from scipy import fft

from src.core.arrays import FloatArray, IntArray
from src.dataset.image_stats import to_luma
from src.images.decode import RGBImage

FILE_COLUMNS = ("length", "bytes_per_pixel", "width", "height", "format", "jpeg_quality")

_THUMBNAIL = 8  # pixels a side

_RINGS = 32

# Larger images give the spectrum of their centre at native scale: a larger transform would only
# average over more of the same frequencies.
_SPECTRUM_SIDE = 512


class PixelFeatures(NamedTuple):
    """What the probes see of the pixels of one image."""

    mean_colour: FloatArray  # (3,) in [0, 255]
    thumbnail: FloatArray  # (192,) in [0, 255]
    spectrum: FloatArray  # (32,) log power


def pixel_features(pixels: RGBImage) -> PixelFeatures:
    """Return the features of one image."""
    thumbnail = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return PixelFeatures(
        mean_colour=np.array(cv2.mean(pixels)[:3]),
        thumbnail=thumbnail.ravel().astype(np.float64),
        spectrum=radial_spectrum(pixels),
    )


def radial_spectrum(pixels: RGBImage) -> FloatArray:
    """Return the log power of luma in 32 rings of frequency, from 0 to 0.5 cycles per pixel.

    Source: Durall, Keuper, Keuper 2020, arXiv:2003.01826, with a Hann window so that the borders
    of the image do not fill all frequencies.
    """
    luma = to_luma(pixels)
    top, left = (max(0, (side - _SPECTRUM_SIDE) // 2) for side in luma.shape)
    luma = luma[top : top + _SPECTRUM_SIDE, left : left + _SPECTRUM_SIDE]
    window, ring, members = _rings(*luma.shape)
    power = np.abs(fft.rfft2((luma - luma.mean()) * window)) ** 2 / window.sum()
    sums = np.bincount(ring, power.ravel(), minlength=_RINGS + 1)[:_RINGS]
    # A flat image has no power; one grey level squared is below any noise.
    return np.log(sums / members + 1)


@lru_cache(maxsize=64)
def _rings(height: int, width: int) -> tuple[FloatArray, IntArray, IntArray]:
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    frequency = np.hypot(fft.fftfreq(height)[:, np.newaxis], fft.rfftfreq(width))
    # The corners beyond 0.5 go to a ring of their own, which is not used.
    ring = np.minimum(frequency * 2 * _RINGS, _RINGS).astype(np.int64).ravel()
    members = np.bincount(ring, minlength=_RINGS + 1)[:_RINGS]
    return window, ring, np.maximum(members, 1)


def file_features(images: pd.DataFrame) -> dict[str, FloatArray]:
    """Return each file statistic of `images` (columns FILE_COLUMNS), shape (n, 1); see above."""
    numbers = images.assign(format=pd.factorize(images["format"], sort=True)[0])
    return {name: numbers[[name]].to_numpy(dtype=np.float64) for name in FILE_COLUMNS}
