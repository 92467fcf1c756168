"""One encoded image -> what metadata says of it: file, light, colour, sharpness, a hash.

Luma is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), 0 to 255, unless a unit is given.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from src.core.arrays import FloatArray, IntArray
from src.images.decode import RGBImage, decode, open_header

Luma = NDArray[np.uint8]  # (H, W)

# Quality 50 of libjpeg. Source: ITU-T T.81 (1992), table K.1.
_LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
# In grey levels. Below it JPEG noise at quality 65 turns more than 4 of the 64 bits in three of
# ten images, above it in three of a hundred; photographs with content start at twice as much.
_FLAT = 0.05
_COSINE_SCALE = 1024
_STRIP = 1024  # rows


class Measures(NamedTuple):
    """What the bytes and the pixels of one image say; the columns stand in schema.METADATA."""

    width: int
    height: int
    format: str
    jpeg_quality: int
    bytes_per_pixel: float
    brightness: float
    contrast: float
    sharpness: float
    colourfulness: float
    perceptual_hash: str


def measure(data: bytes) -> Measures:
    """Return the measures of an encoded image, floats rounded so that their text is stable.

    Raises:
        UndecodableImage: the bytes are not a whole image of a known format.
    """
    header = open_header(data)
    pixels = decode(data)
    luma = to_luma(pixels)
    height, width = luma.shape
    mean, deviation = cv2.meanStdDev(luma)
    return Measures(
        width=width,
        height=height,
        format=str(header.format).lower(),
        jpeg_quality=jpeg_quality(getattr(header, "quantization", {})),
        bytes_per_pixel=round(len(data) / (width * height), 6),
        brightness=round(float(mean[0, 0]) / 255, 6),
        contrast=round(float(deviation[0, 0]) / 255, 6),
        sharpness=round(sharpness(luma), 3),
        colourfulness=round(colourfulness(pixels), 3),
        perceptual_hash=perceptual_hash(luma),
    )


def to_luma(pixels: RGBImage) -> Luma:
    """Return the luma of an image, uint8, shape (H, W)."""
    luma: Luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]  # stays uint8
    return luma


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """Return the libjpeg quality, 1 to 100, whose luma table is nearest in sum; 0 without tables.

    Exact for files that libjpeg wrote with its own tables, the nearest equivalent for others.

    Source: jcparam.c of the Independent JPEG Group's libjpeg, `jpeg_quality_scaling`.
    """
    if not tables:
        return 0
    return _nearest_quality(sum(tables[min(tables)]))


@cache
def _nearest_quality(table_sum: int) -> int:
    return 1 + int(np.argmin(np.abs(_table_sums() - table_sum)))


@cache
def _table_sums() -> IntArray:
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)  # percent
    tables = (np.multiply.outer(scale, _LUMA_TABLE) + 50) // 100
    sums: IntArray = tables.clip(1, 255).sum(axis=(1, 2))
    return sums


def sharpness(luma: Luma) -> float:
    """Return the variance of the Laplacian of luma.

    Source: Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548.
    """
    # By its sums, which OpenCV vectorises for 16-bit pixels; its own deviation takes seven times
    # as long.
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    mean = cv2.sumElems(edges)[0] / luma.size
    return cv2.norm(edges, cv2.NORM_L2SQR) / luma.size - mean**2


def colourfulness(pixels: RGBImage) -> float:
    """Return the colourfulness: 0 grey, 15 slightly, 45 averagely, 109 extremely colourful.

    Source: Hasler and Suesstrunk 2003, doi:10.1117/12.477378, their M(3).
    """
    # With red-green r - g and yellow-blue (r + g) / 2 - b, every moment follows from three sums
    # and three sums of squared differences of channels, which OpenCV adds up exactly; the planes
    # themselves would take longer to write than all the rest.
    size = pixels.shape[:2]
    count = math.prod(size)
    # Into arrays of numpy's: OpenCV would copy its own, in twice the time.
    red, green, blue = cv2.split(pixels, [np.empty(size, np.uint8) for _ in range(3)])
    r, g, b = (channel_sum / count for channel_sum in cv2.sumElems(pixels)[:3])
    rg2, gb2, rb2 = (
        cv2.norm(one, other, cv2.NORM_L2SQR) / count
        for one, other in ((red, green), (green, blue), (red, blue))
    )
    mean_rg, mean_yb = r - g, (r + g) / 2 - b
    variance = (rg2 - mean_rg**2) + ((2 * rb2 + 2 * gb2 - rg2) / 4 - mean_yb**2)
    return math.sqrt(max(variance, 0.0)) + 0.3 * math.hypot(mean_rg, mean_yb)


def perceptual_hash(luma: Luma) -> str:
    """Return 64 bits as 16 hexadecimal digits, or an empty string if the image is too flat.

    Bit i says whether the i-th of the 8 x 8 lowest mixed frequencies of the image's cosine
    transform lies above their median. Purely horizontal and vertical frequencies are left out:
    they tell the light of a scene more than the scene. Recompressed and resized copies differ in
    0 to 2 bits, unrelated images in about 32.

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions",
    section 3.2.1, without its reduction to 32 x 32 pixels.
    """
    height, width = luma.shape
    # Rows at a time: as float64, eight bytes a pixel, a large photograph would fill the memory.
    columns = np.zeros((8, width))
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        columns += _cosines(height)[:, rows] @ luma[rows].astype(np.float64)
    waves = (columns.astype(np.int64) @ _cosines(width).T.astype(np.int64)).astype(np.float64)
    distances = waves - _median(waves)
    if _median(np.abs(distances)) < _FLAT * luma.size * _COSINE_SCALE**2:
        return ""
    return np.packbits(distances > 0).tobytes().hex()


def _median(values: FloatArray) -> float:
    # numpy's own takes as long as the transform, most of it to look for missing values.
    ordered = np.sort(values, axis=None)
    return float(ordered[31] + ordered[32]) / 2


@lru_cache(maxsize=1024)
def _cosines(length: int) -> FloatArray:
    # Rounded to 1/1024, the sums of a column are whole numbers below 2**53: exact in float64 in any
    # order, so every processor and BLAS gives the same bits. Those of an image need 64 bits.
    frequency = np.arange(1, 9)[:, np.newaxis]
    angle = np.pi * frequency * (2 * np.arange(length) + 1) / (2 * length)
    cosines: FloatArray = np.rint(_COSINE_SCALE * np.cos(angle))
    return cosines  # (8, length)
