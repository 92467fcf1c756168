"""The usual way to describe images, as a notebook has it: python -m bench.notebook FOLDER.

It runs in a process of its own, with its own imports and no others (see bench/metadata.py).
"""

import hashlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import laplace


def main() -> None:
    """Describe the images in FOLDER, twice; print what the second time took."""
    paths = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file())
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        for path in paths:
            describe(path.read_bytes())
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps(seconds))


def describe(data: bytes) -> tuple[object, ...]:
    """Return the measures of src/dataset/image_stats.py."""
    import imagehash  # not in requirements.txt

    image = Image.open(io.BytesIO(data))
    tables = getattr(image, "quantization", {})
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    luma = np.asarray(image.convert("L"), dtype=np.float64)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    colour = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    return (
        hashlib.sha256(data).hexdigest(),
        image.size,
        image.format,
        tables,
        luma.mean(),
        luma.std(),
        laplace(luma).var(),
        colour,
        str(imagehash.phash(image)),
    )


if __name__ == "__main__":
    main()
