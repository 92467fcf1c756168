"""Time and memory of planning a subset of 2.5 million images: `python -m bench.plan`.

Writes ArtiFact's zip as its mirror has it, names and tables but no image, and runs the stage's own
command on it.
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from src.schema import REAL
from src.sources.methods import METHODS

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print seconds and gigabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_500_000)
    parser.add_argument("--images-per-method", type=int, default=3_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sparse_zip(folder / "artifact.zip", args.images)
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


def write_sparse_zip(path: Path, members: int) -> None:
    """Write a zip64 archive with ArtiFact's names and tables; its images are one hole in the file.

    Not even their local headers are written: millions of fragments would take a file system hours.
    """
    directory, tables, count, offset = bytearray(), [], 0, 0
    half = members // 2
    for method, known in METHODS.items():
        folder = f"ArtiFact/{'Real' if known.labels == (REAL,) else 'Fake'}/{method}"
        lines = ["filename,image_path,target,category"]
        for number in range(half if method == "stylegan2" else half // (len(METHODS) - 1)):
            image = f"part{number % 100:03d}/img{number:07d}.jpg"
            name, size = f"{folder}/{image}".encode(), 12_000 + number % 999
            directory += entry(name, size, 0, offset)
            offset += 30 + len(name) + size
            lines.append(f"img{number:07d}.jpg,{image},{6 * max(known.labels)},human face")
        tables.append((f"{folder}/metadata.csv".encode(), "\n".join([*lines, ""]).encode()))
        count += len(lines)
    with path.open("wb") as file:
        file.seek(offset)
        for name, table in tables:
            size, crc = len(table), zlib.crc32(table)
            directory += entry(name, size, crc, offset)
            head = struct.pack("<4s5H3I", b"PK\3\4", 45, 0, 0, 0, 0, crc, size, size)
            offset += file.write(head + struct.pack("<2H", len(name), 0) + name + table)
        file.write(directory)
        file.write(struct.pack("<4sQ2H2I2Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count))
        file.write(struct.pack("<2Q", len(directory), offset))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, offset + len(directory), 1))
        none = (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *none, 0))


def entry(name: bytes, size: int, crc: int, offset: int) -> bytes:
    """Return an entry of a zip archive's directory, its offset in the zip64 extra field."""
    head = struct.pack("<I6H3I", 0x02014B50, 45, 45, 0, 0, 0, 0, crc, size, size)
    rest = struct.pack("<5H2I", len(name), 12, 0, 0, 0, 0, 0xFFFFFFFF)
    return head + rest + name + struct.pack("<2HQ", 1, 8, offset)


def write_params(folder: Path, images_per_method: int) -> None:
    """Write params.yaml (JSON is YAML) with the section that the stage reads."""
    section = {
        "source": "artifact",
        "origin": str(folder / "artifact.zip"),
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
