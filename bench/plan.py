"""Time and memory of planning a subset out of one zip of 2.5 million images."""

import os
import struct
import zlib
from pathlib import Path

from bench.results import Figure, Outcome, at_most
from bench.tables import ROWS, write_params
from bench.timing import in_child
from src import download
from src.core.tables import REAL
from src.sources.shared.known_methods import METHODS

DRAWN_PER_METHOD = 3000


def run(scale: float, folder: Path) -> Outcome:
    """Write ArtiFact's zip as its mirror has it, names and tables but no image, and plan."""
    images = max(2000, round(ROWS * scale))
    write_sparse_zip(folder / "artifact.zip", images)
    drawn = max(1, round(DRAWN_PER_METHOD * scale))
    write_params(folder, download=section(folder / "artifact.zip", drawn))
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


def section(origin: Path, images_per_method: int) -> dict[str, object]:
    """Return section `download` of params.yaml."""
    return {
        "source": "artifact",
        "origin": str(origin),
        "methods": None,
        "categories": None,
        "allow_licences": None,
        "images_per_method": images_per_method,
        "balance_classes": True,
        "max_missing": 0,
        "shard_images": 2000,
        "shard_megabytes": 256,
        "real_names": ["real"],
        "fake_names": ["fake"],
        "seed": 0,
    }
