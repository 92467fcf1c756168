"""Time and memory of planning a subset of 2.5 million images that a folder of ArtiFact's lists."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from bench.results import Figure, Outcome, at_most
from bench.tables import ROWS, write_params
from bench.timing import in_child
from src import download
from src.sources.methods import METHODS

CATEGORIES = ("human face", "bedroom", "church", "cat", "horse", "car", "object", "landscape")
DRAWN_PER_METHOD = 3000
# It has two fifths of all images, as in ArtiFact.
LARGEST, LARGEST_SHARE = "stylegan2", 0.4


def run(scale: float, folder: Path) -> Outcome:
    """Write metadata.csv of ArtiFact's 33 methods, without any image, and run the stage's plan."""
    images = max(2000, round(ROWS * scale))
    write_tables(folder / "artifact", images)
    write_params(
        folder, download=section(folder / "artifact", max(1, round(DRAWN_PER_METHOD * scale)))
    )
    _, cost = in_child(plan, folder)
    return Outcome(
        [
            Figure("processor time", "", cost.cpu, at_most(60, "s")),
            Figure("memory", "", cost.gigabytes, at_most(1.5, "GB")),
        ],
        {"images": images, "wall_seconds": cost.wall},
        ("numpy", "pandas", "pyarrow"),
    )


def plan(folder: Path) -> None:
    """Run the command of `make plan` in `folder`."""
    os.chdir(folder)
    download.main(["--plan"])


def write_tables(root: Path, images: int) -> None:
    """Write a metadata.csv for each method."""
    largest = round(images * LARGEST_SHARE)
    others = (images - largest) // (len(METHODS) - 1)
    for method, known in METHODS.items():
        number = np.arange(largest if method == LARGEST else others)
        path = [f"images/part{n // 10_000:03d}/img{n:07d}.jpg" for n in number]
        columns = {
            "filename": [p.rsplit("/", 1)[1] for p in path],
            "image_path": path,
            "target": np.array(known.labels)[number % len(known.labels)],
            "category": np.array(CATEGORIES)[number % len(CATEGORIES)],
        }
        (root / method).mkdir(parents=True)
        csv.write_csv(pa.table(columns), root / method / "metadata.csv")


def section(origin: Path, images_per_method: int) -> dict[str, object]:
    """Return section `download` of params.yaml."""
    return {
        "source": "folder",
        "origin": str(origin),
        "methods": None,
        "categories": None,
        "allow_licences": None,
        "images_per_method": images_per_method,
        "balance_classes": True,
        "max_missing": 0,
        "shard_images": 2000,
        "shard_megabytes": 256,
        "seed": 0,
    }
