"""Time and memory of planning a subset of 2.5 million images: `python -m bench.plan`.

Writes metadata.csv of ArtiFact's 33 methods, without any image, and runs the stage's own command.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from src.sources.methods import METHODS

ROOT = Path(__file__).parents[1]
CATEGORIES = ("human face", "bedroom", "church", "cat", "horse", "car", "object", "landscape")


def main() -> None:
    """Print seconds and gigabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_500_000)
    parser.add_argument("--images-per-method", type=int, default=3_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder / "artifact", args.images)
        write_params(folder, args.images_per_method)
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "src.download", "--plan"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        seconds = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime
    print(f"{args.images:,} images listed: {seconds:.1f} s ({processor:.1f} s of processor time)")
    print(f"{used.ru_maxrss / 1e6:.2f} GB of memory at most")


def write_tables(root: Path, images: int) -> None:
    """Write a metadata.csv for each method; StyleGAN2 has two fifths of all images, as it does."""
    largest = images * 2 // 5
    others = (images - largest) // (len(METHODS) - 1)
    for method, known in METHODS.items():
        number = np.arange(largest if method == "stylegan2" else others)
        path = [f"images/part{n // 10_000:03d}/img{n:07d}.jpg" for n in number]
        columns = {
            "filename": [p.rsplit("/", 1)[1] for p in path],
            "image_path": path,
            "target": np.array(known.labels)[number % len(known.labels)],
            "category": np.array(CATEGORIES)[number % len(CATEGORIES)],
        }
        (root / method).mkdir(parents=True)
        csv.write_csv(pa.table(columns), root / method / "metadata.csv")


def write_params(folder: Path, images_per_method: int) -> None:
    """Write params.yaml (JSON is YAML) with the section that the stage reads."""
    section = {
        "source": "folder",
        "origin": str(folder / "artifact"),
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
    (folder / "params.yaml").write_text(json.dumps({"download": section}))


if __name__ == "__main__":
    main()
