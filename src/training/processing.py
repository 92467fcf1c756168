"""What pictures go through on their way to a detector: rescaled, blurred, noisy, compressed anew.

Ours, in OpenCV and libjpeg-turbo; geometry and colour stay with albumentations, so that a change of
library touches `augmentation` alone: 2.0.8 is the last of it under a free licence.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from numpy.random import Generator

from src.images.decode import RGBImage

# Rescaling with a single one is itself a fingerprint.
KERNELS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)

Step = Callable[[RGBImage, Generator, float, float], RGBImage]  # image, draws, lowest, highest


def rescale(image: RGBImage, factor: float, kernel: int, size: int, draws: Generator) -> RGBImage:
    """Return a random window of `image`, rescaled by `factor` to `size` pixels a side or more.

    Only a window, because all of a photograph would take a hundred times as long. An image that is
    too small is rescaled whole.
    """
    side = math.ceil(size / factor)
    height, width = (min(side, length) for length in image.shape[:2])
    top = int(draws.integers(image.shape[0] - height + 1))
    left = int(draws.integers(image.shape[1] - width + 1))
    sides = max(1, math.ceil(width * factor)), max(1, math.ceil(height * factor))
    window = image[top : top + height, left : left + width]
    return np.asarray(cv2.resize(window, sides, interpolation=kernel), dtype=np.uint8)


def blur(image: RGBImage, draws: Generator, lowest: float, highest: float) -> RGBImage:
    """Return `image` after a Gaussian of a sigma in pixels between the two."""
    sigma = draws.uniform(lowest, highest)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image, dtype=np.uint8)


def noise(image: RGBImage, draws: Generator, lowest: float, highest: float) -> RGBImage:
    """Return `image` with Gaussian noise of a deviation between the two, of the full range."""
    deviation = 255 * draws.uniform(lowest, highest)
    noisy = image + deviation * draws.standard_normal(image.shape, dtype=np.float32)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def jpeg(image: RGBImage, draws: Generator, lowest: float, highest: float) -> RGBImage:
    """Return `image` after one JPEG round trip, of a quality between the two."""
    quality = int(draws.integers(int(lowest), int(highest) + 1))
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, colorsubsampling="420")
    decoded: RGBImage = simplejpeg.decode_jpeg(encoded)
    return decoded


def webp(image: RGBImage, draws: Generator, lowest: float, highest: float) -> RGBImage:
    """Return `image` after one WebP round trip, of a quality between the two."""
    quality = int(draws.integers(int(lowest), int(highest) + 1))
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


# In the order in which a picture meets them: a camera's faults first, then what stores it.
STEPS: dict[str, Step] = {"blur": blur, "noise": noise, "webp": webp, "jpeg": jpeg}
