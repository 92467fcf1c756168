"""How many images a core describes in a second, against the usual Pillow, numpy and imagehash."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import laplace

from bench.pictures import make_jpegs, shard_table
from bench.results import Figure, Outcome, at_least
from bench.timing import installed, interleaved, medians, ratio, repeats
from src.decode import decode
from src.metadata import measure_images
from src.shards import ShardReader

IMAGES, ROUNDS = 500, 5


def run(scale: float, folder: Path) -> Outcome:
    """Compare the stage's pass over shards with a loop over loose files in memory."""
    count = max(8, round(IMAGES * scale))
    jpegs = make_jpegs(count)
    table = shard_table(jpegs, folder / "raw")
    index = table.assign(sha256=[hashlib.sha256(content).hexdigest() for content in jpegs])
    reader = ShardReader(folder / "raw")
    work: dict[str, Callable[[], object]] = {
        "here": lambda: measure_images(index, reader),
        "decoding alone": lambda: [decode(content) for content in jpegs],
    }
    if installed("imagehash"):
        work["usual"] = lambda: [usual(content) for content in jpegs]
    costs = interleaved(rounds := repeats(ROUNDS, scale), work)
    return Outcome(
        [
            Figure(
                "images/s of a core",
                "Pillow, numpy, scipy, imagehash, one image at a time",
                ratio(costs, "usual", "here", "cpu"),
                at_least(5),
            )
        ],
        {
            "decoding_alone_ratio": ratio(costs, "usual", "decoding alone", "cpu"),  # the ceiling
            "images": count,
            "median": medians(costs),
            "rounds": rounds,
        },
        ("imagehash", "numpy", "opencv-python-headless", "pillow", "scipy", "simplejpeg"),
    )


def usual(data: bytes) -> tuple[object, ...]:
    """Return the same measures, as a notebook would compute them."""
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
