"""How many images a core describes in a second, against the usual Pillow, numpy and imagehash."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from bench.pictures import make_jpegs, shard_table, write_class_folders
from bench.results import Figure, Outcome, at_least
from bench.timing import Cost, cost_of, in_child, installed, medians, ratio, repeats
from src.images.decode import decode
from src.images.shards import ShardReader
from src.metadata import measure_images

IMAGES, ROUNDS = 500, 5


def run(scale: float, folder: Path) -> Outcome:
    """Compare the stage's pass over shards with a loop over loose files.

    Each in a process of its own: what else has used the memory decides how often it is asked of the
    system, and that a third of what the loop takes.
    """
    count = max(8, round(IMAGES * scale))
    jpegs = make_jpegs(count)
    sha256 = [hashlib.sha256(content).hexdigest() for content in jpegs]
    shard_table(jpegs, folder / "raw").assign(sha256=sha256).to_pickle(folder / "index.pkl")
    write_class_folders(jpegs, folder / "loose")
    work: dict[str, Callable[[], Cost]] = {
        "here": lambda: in_child(here, folder)[0],
        "decoding alone": lambda: in_child(decoding, folder)[0],
    }
    if installed("imagehash"):
        work["usual"] = lambda: usual(folder)
    costs: dict[str, list[Cost]] = {name: [] for name in work}
    for _ in range(rounds := repeats(ROUNDS, scale)):
        for name, function in work.items():
            costs[name].append(function())
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


def here(folder: Path) -> Cost:
    """Return what the stage's pass over the shards takes."""
    index, reader = pd.read_pickle(folder / "index.pkl"), ShardReader(folder / "raw")
    return warm_cost(lambda: measure_images(index, reader))


def decoding(folder: Path) -> Cost:
    """Return what it takes to read and decode alone."""
    index, reader = pd.read_pickle(folder / "index.pkl"), ShardReader(folder / "raw")
    places = list(zip(index["shard"], index["offset"], index["length"], strict=True))
    return warm_cost(lambda: [decode(reader.read(*place)) for place in places])


def usual(folder: Path) -> Cost:
    """Return what a notebook's loop takes."""
    command = [sys.executable, "-m", "bench.notebook", str(folder / "loose")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Cost(**json.loads(printed))


def warm_cost(work: Callable[[], object]) -> Cost:
    """Return the cost of the second time, so that nobody pays for imports."""
    work()
    return cost_of(work)
