"""A decoded image -> the same image after what happens to images on their way through the world."""

import io
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from src.core.hashing import image_key
from src.images.decode import RGBImage, decode

Corruption = Callable[[RGBImage, float, np.random.Generator], RGBImage]

# Of one screenshot in a chain: sides by this factor, edges cropped, quality of the file it is in.
_SCREENSHOT_SCALE = (0.8, 1.25)
_SCREENSHOT_EDGE = (0.0, 0.03)
_SCREENSHOT_QUALITY = (70.0, 95.0)
_SMALLEST_SIDE = 8  # pixels; no corruption makes an image vanish


def corrupt(image: RGBImage, name: str, level: float, key: int, seed: int) -> RGBImage:
    """Return `image` after corruption `name` at `level`, uint8, (H, W, 3); sizes may change.

    What is drawn depends on `seed`, the image's `key` and the corruption, not on the level: along
    a curve every image meets the same noise, only more of it.
    """
    numbers = np.random.default_rng([seed, key, image_key(name)])
    return np.ascontiguousarray(CORRUPTIONS[name](image, level, numbers))


def jpeg(image: RGBImage, level: float, _: np.random.Generator) -> RGBImage:
    """Return `image` after one JPEG round trip at quality `level`, chroma at half resolution."""
    return decode(simplejpeg.encode_jpeg(image, round(level), "RGB", "420"))


def webp(image: RGBImage, level: float, _: np.random.Generator) -> RGBImage:
    """Return `image` after one lossy WebP round trip at quality `level`."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", quality=round(level))
    return decode(buffer.getvalue())


def resize(image: RGBImage, level: float, _: np.random.Generator) -> RGBImage:
    """Return `image` with both sides `level` times as long: area averages, or cubic to enlarge."""
    height, width = (max(_SMALLEST_SIDE, round(side * level)) for side in image.shape[:2])
    method = cv2.INTER_AREA if level < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def blur(image: RGBImage, level: float, _: np.random.Generator) -> RGBImage:
    """Return `image` under a Gaussian of standard deviation `level`, in pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), level), dtype=np.uint8)


def noise(image: RGBImage, level: float, numbers: np.random.Generator) -> RGBImage:
    """Return `image` with Gaussian noise of standard deviation `level` of the full range."""
    grain = numbers.standard_normal(image.shape, dtype=np.float32)
    return (image + 255 * level * grain).round().clip(0, 255).astype(np.uint8)


def crop(image: RGBImage, level: float, numbers: np.random.Generator) -> RGBImage:
    """Return a part of `image` whose sides are `level` times as long, at a random position."""
    sides = [max(1, round(side * level)) for side in image.shape[:2]]
    positions = numbers.random(2)
    top, left = (
        int(position * (side - kept + 1))
        for position, side, kept in zip(positions, image.shape, sides, strict=False)
    )
    return image[top : top + sides[0], left : left + sides[1]]


def brightness(image: RGBImage, level: float, _: np.random.Generator) -> RGBImage:
    """Return `image` with all values times `level`."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=level), dtype=np.uint8)


def screenshots(image: RGBImage, level: float, numbers: np.random.Generator) -> RGBImage:
    """Return `image` after `level` times being shown at another size, cropped and saved as JPEG.

    A longer chain begins as a shorter one does.
    """
    for _ in range(round(level)):
        image = resize(image, numbers.uniform(*_SCREENSHOT_SCALE), numbers)
        edges = numbers.uniform(*_SCREENSHOT_EDGE, 4)
        height, width = image.shape[:2]
        top, bottom = (int(edge * height) for edge in edges[:2])
        left, right = (int(edge * width) for edge in edges[2:])
        shown = np.ascontiguousarray(image[top : height - bottom, left : width - right])
        image = jpeg(shown, numbers.uniform(*_SCREENSHOT_QUALITY), numbers)
    return image


def resize_jpeg(image: RGBImage, level: float, numbers: np.random.Generator) -> RGBImage:
    """Return `image` resized by `level` and saved as JPEG, as sites do with what is uploaded."""
    return jpeg(resize(image, level, numbers), numbers.uniform(*_SCREENSHOT_QUALITY), numbers)


def jpeg_resize(image: RGBImage, level: float, numbers: np.random.Generator) -> RGBImage:
    """Return `image` saved as JPEG at quality `level`, shown at another size and kept as PNG."""
    return resize(jpeg(image, level, numbers), numbers.uniform(*_SCREENSHOT_SCALE), numbers)


CORRUPTIONS: dict[str, Corruption] = {
    "jpeg": jpeg,
    "webp": webp,
    "resize": resize,
    "blur": blur,
    "noise": noise,
    "crop": crop,
    "brightness": brightness,
    "screenshots": screenshots,
    "resize_jpeg": resize_jpeg,
    "jpeg_resize": jpeg_resize,
}
