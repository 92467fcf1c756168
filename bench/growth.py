"""How time and memory of the stages that handle tables grow from 10,000 rows to 2.5 million.

The metadata stage runs as it is, except that pixels are not decoded: those cost the same for every
image (job `metadata`), and 2.5 million of them would take an hour.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import EngFormatter

from bench.results import Figure, Outcome, at_most
from bench.tables import METADATA, ROWS, SPLIT, crowded_hashes, make_index, write_params
from bench.timing import in_child
from src import metadata as metadata_stage
from src import split as split_stage
from src.core.cli import InputError
from src.core.files import write_json
from src.core.tables import FAKE, write_table
from src.dataset.columns import INDEX
from src.dataset.image_stats import Measures
from src.dataset.manifest import MANIFEST
from src.dataset.near_duplicates import hash_clusters

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, ROWS)
# Below it the start of Python and its libraries is all there is to measure.
FITTED_FROM = 100_000
LIMITS = {"metadata": 1.5, "split": 1.5, "duplicates": 4.0}  # GB
COLOURS = {"metadata": "#0072b2", "split": "#d55e00", "duplicates": "#009e73"}


class Point(NamedTuple):
    """One row of growth.csv."""

    stage: str
    rows: int
    cpu_seconds: float
    gigabytes: float


def run(scale: float, folder: Path) -> Outcome:
    """Measure every stage at every size, each in a process of its own; fit the exponents."""
    sizes = sorted({max(2000, round(size * scale)) for size in SIZES})
    return outcome([point for size in sizes for point in measure_at(size, folder / str(size))])


def outcome(points: Sequence[Point]) -> Outcome:
    """Return figures, table and picture."""
    table = pd.DataFrame(points).sort_values(["stage", "rows"], ignore_index=True)
    exponents = {
        str(stage): exponent(of_stage.tail(sum(size >= FITTED_FROM for size in SIZES)))
        for stage, of_stage in table.groupby("stage")
    }
    largest = table.groupby("stage")["gigabytes"].max()
    text = table.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    times = [
        Figure(f"time of {stage} as rows ** n, n", "linear: 1", value, at_most(1.1, ""))
        for stage, value in exponents.items()
    ]
    memory = [
        Figure(f"memory of {stage}, most rows", "", float(largest[stage]), at_most(limit, "GB"))
        for stage, limit in LIMITS.items()
    ]
    return Outcome(
        [*times, *memory],
        {"rows": sorted(set(table["rows"].tolist()))},
        ("numpy", "pandas", "pyarrow", "scipy"),
        {"growth.csv": text.encode(), "growth.png": draw(table)},
    )


def exponent(of_stage: pd.DataFrame) -> float:
    """Return the slope of time over rows, both as logarithms."""
    logs = np.log(of_stage[["rows", "cpu_seconds"]].to_numpy())
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def measure_at(rows: int, folder: Path) -> list[Point]:
    """Return what each stage takes for `rows` images."""
    folder.mkdir()
    in_child(make_raw, rows, folder)
    work = {"metadata": metadata, "split": split, "duplicates": duplicates}
    points = []
    for name, function in work.items():
        _, cost = in_child(function, folder)
        points.append(Point(name, rows, cost.cpu, cost.gigabytes))
    return points


def make_raw(rows: int, folder: Path) -> None:
    """Write data/raw as download leaves it, but for the images: its shards are empty files."""
    np.save(folder / "hashes.npy", crowded_hashes(rows))
    write_params(folder, metadata=METADATA, split={**SPLIT, "images_per_class": None})
    digests = [hashlib.sha256(_content(number)).hexdigest() for number in range(rows)]
    # `offset` says which image it is, and with short lengths the stage stays in one process.
    index = make_index(rows).assign(offset=range(rows), length=1, sha256=digests)
    raw = folder / "raw"
    raw.mkdir()
    methods = {}
    for method, of_method in index.groupby("method"):
        shards = {
            str(shard): _write_shard(raw / str(shard), part)
            for shard, part in of_method.groupby("shard")
        }
        fake = int((of_method["label"] == FAKE).sum())
        counts = {"real": len(of_method) - fake, "fake": fake, "shards": shards}
        methods[str(method)] = {"origin": "made", "version": "1", "licence": "CC0-1.0", **counts}
    write_json({"methods": methods, "missing": []}, raw / MANIFEST)


def _write_shard(path: Path, index: pd.DataFrame) -> dict[str, int | str]:
    path.write_bytes(b"")
    write_table(index, path.with_suffix(".csv"), INDEX)
    return {
        "images": len(index),
        "bytes": 0,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "index_sha256": hashlib.sha256(path.with_suffix(".csv").read_bytes()).hexdigest(),
    }


def _content(number: int) -> bytes:
    return number.to_bytes(8, "big")


class _Reader:
    """Stands in for `ShardReader`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, shard: str, offset: int, length: int) -> bytes:  # noqa: ARG002 - its signature
        return _content(offset)


def _measures(hashes: Sequence[int], data: bytes) -> Measures:
    number = int.from_bytes(data, "big")
    light = (number % 1009) / 1009
    return Measures(
        *(200, 200, "jpeg", 65 + number % 36, round(0.3 + light, 6)),
        *(round(light, 6), round(light / 2, 6), round(1000 * light, 3), round(100 * light, 3)),
        f"{hashes[number]:016x}",
    )


def metadata(folder: Path) -> None:
    """Run the stage `metadata`, pixels left out."""
    os.chdir(folder)
    hashes = np.load("hashes.npy", mmap_mode="r")
    with (
        mock.patch.object(metadata_stage, "ShardReader", _Reader),
        mock.patch.object(metadata_stage, "measure", partial(_measures, hashes)),
    ):
        metadata_stage.main(["raw", "metadata.csv", "metadata.parquet", "metadata.json"])


def split(folder: Path) -> None:
    """Run the stage `split` for all that balance allows."""
    os.chdir(folder)
    split_stage.main(["metadata.parquet", "splits.csv", "split.json"])


def duplicates(folder: Path) -> None:
    """Group the hashes alone."""
    clusters = hash_clusters(np.load(folder / "hashes.npy"), METADATA["max_hash_distance"])
    if len(clusters) == 0:
        raise InputError("no hashes")


def draw(table: pd.DataFrame) -> bytes:
    """Return the picture: time and memory over rows, as PNG."""
    buffer = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, "font.size": 9, "axes.titlesize": 10}):
        picture = Picture(figsize=(9, 3.6), layout="constrained")
        time, memory = picture.subplots(1, 2)
        _draw_column(time, table, "cpu_seconds", "Processor time, seconds")
        _draw_column(memory, table, "gigabytes", "Peak memory, GB")
        ends = table["rows"].agg(["min", "max"]).to_numpy()
        start = table["cpu_seconds"].max() / ends[1]
        time.plot(ends, 2 * start * ends, color="0.6", linestyle=":", label="slope of linear time")
        time.set_yscale("log")
        time.yaxis.set_major_formatter("{x:g}")
        time.legend(frameon=False)
        memory.set_ylim(bottom=0)
        picture.savefig(buffer, dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _draw_column(axes: Axes, table: pd.DataFrame, column: str, title: str) -> None:
    for stage, colour in COLOURS.items():
        of_stage = table[table["stage"] == stage]
        axes.plot(of_stage["rows"], of_stage[column], color=colour, marker="o", ms=4, label=stage)
    axes.set(xscale="log", xlabel="images", title=title)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
