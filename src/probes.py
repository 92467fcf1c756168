"""Features that say nothing of what an image shows, and how well they tell its class.

Whatever they reach, a detector can reach without having looked: they are the floor that it is
measured from.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from src.decode import RGBImage
from src.measures import to_luma

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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


def out_of_fold_scores(
    features: FloatArray, labels: IntArray, groups: NDArray[np.str_], folds: int, seed: int
) -> FloatArray:
    """Return a score for each image, shape (n,), from a fit that saw nothing of its group.

    `features` are of shape (n, columns), of whatever kinds: boosted trees need no scaling and
    find a dependency of any shape.
    """
    # Early stopping would hold out images without regard to their groups.
    trees = HistGradientBoostingClassifier(
        max_leaf_nodes=8, early_stopping=False, random_state=seed
    )
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    # At these sizes threads cost more than they save, and their sums differ in the last bits.
    with threadpool_limits(1):
        scores: FloatArray = cross_val_predict(
            trees, features, labels, groups=groups, cv=cut, method="predict_proba"
        )
    return scores[:, 1]
