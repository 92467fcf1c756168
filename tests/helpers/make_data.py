"""Images and folders that tests make for themselves: small, seeded, in the layouts of the field."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from src.core.arrays import UInt8Array

# method -> (is generated, ArtiFact's raw target code, category)
METHODS = {
    "ffhq": (False, 0, "face"),
    "landscape": (False, 0, "scene"),
    "stylegan2": (True, 2, "face"),
    "glide": (True, 6, "scene"),
}


def make_image(seed: int, size: int = 64, *, fake: bool = False) -> UInt8Array:
    """Return a random picture, (size, size, 3): coarse colours and, unless fake, fine grain.

    The missing grain is what every upsampling generator shares, and a tiny model learns it.
    """
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (6, 6, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)
    grain = 0.0 if fake else 16.0
    noisy = picture + grain * rng.standard_normal((size, size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def encode(image: UInt8Array, image_format: str = "jpeg", quality: int = 92) -> bytes:
    """Return the encoded image."""
    buffer = io.BytesIO()
    options = {} if image_format == "png" else {"quality": quality}
    Image.fromarray(image).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def make_artifact_folder(root: Path, images_per_method: int = 12, size: int = 64) -> Path:
    """Write two real and two generated methods in ArtiFact's layout; return `root`."""
    for number, (method, (fake, target, category)) in enumerate(METHODS.items()):
        folder = root / method
        (folder / "images").mkdir(parents=True)
        rows = []
        for index in range(images_per_method):
            # The same base names repeat in every method, as they do in ArtiFact.
            name = f"img{index:06d}.jpg"
            data = encode(make_image(1000 * number + index, size, fake=fake))
            (folder / "images" / name).write_bytes(data)
            rows.append([name, f"images/{name}", target, category])
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["filename", "image_path", "target", "category"])
            writer.writerows(rows)
    return root


def make_class_folder(root: Path, images_per_class: int = 12, size: int = 64) -> Path:
    """Write a plain `real/ fake/` tree; return `root`."""
    for number, name in enumerate(("real", "fake")):
        (root / name).mkdir(parents=True)
        for index in range(images_per_class):
            data = encode(make_image(1000 * number + index, size, fake=name == "fake"))
            (root / name / f"{index:04d}.jpg").write_bytes(data)
    return root
