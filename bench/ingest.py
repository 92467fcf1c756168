"""How fast images come from an S3 server on this machine, by layout and client; a big zip's plan.

`python -m bench.ingest [--images 2000] [--zip-members 2500000]`; `--aws`, `--s5cmd`: programs to
compare with, from an environment of their own (awscli pins another botocore). Ratios within one
run count, absolute figures do not.
"""

import argparse
import io
import multiprocessing
import os
import resource
import struct
import subprocess
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
import pyarrow as pa

from src.sources import artifact
from src.sources.cache import Cache
from src.sources.from_origin import fetch_into
from src.sources.methods import METHODS
from src.sources.origins import open_origin
from src.sources.origins.listed import ListedOrigin
from src.sources.origins.places import find_place
from src.sources.several import Sources
from src.subset import SubsetParams, choose
from tools.s3 import Identity, S3Server

IMAGE_BYTES = 12_000
SUBSET = SubsetParams(
    methods=None,
    categories=None,
    allow_licences=None,
    images_per_method=100_000 // len(METHODS),
    balance_classes=False,
    seed=0,
)


def main() -> None:
    """Print a table of images per second, then what planning over a big zip takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--zip-members", type=int, default=2_500_000)
    parser.add_argument("--aws", help="the aws program")
    parser.add_argument("--s5cmd", help="the s5cmd program")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.images:
            ingest(Path(folder), args.images, args.aws, args.s5cmd)
        if args.zip_members:
            plan_in_child(Path(folder), args.zip_members)


def ingest(folder: Path, images: int, aws: str | None, s5cmd: str | None) -> None:
    """Measure every layout and client against one server."""
    owner = Identity("owner", "owner-key", "owner-secret")
    with S3Server(folder / "s3", "bench", [owner]) as server:
        os.environ |= {**server.environment(owner), "AWS_ENDPOINT_URL": server.endpoint}
        files = make_files(images)
        upload(files)
        subset = sorted(files)[::10]
        rates: dict[str, float] = {}

        def measure(name: str, count: int, work: Callable[[Path], int]) -> None:
            target = Path(tempfile.mkdtemp(dir=folder))
            start = time.perf_counter()
            got = work(target)
            rates[name] = count / (time.perf_counter() - start)
            assert got == count, (name, got)
            print(f"{name:42s} {rates[name]:9.0f} images/s")

        loose = f"{server.endpoint}", "s3://bench/loose/*"
        if aws:
            command = [aws, "--endpoint-url", loose[0], "s3", "cp", "--recursive", "--quiet"]
            measure(
                "loose: aws s3 cp",
                images,
                lambda t: run_program([*command, "s3://bench/loose", str(t)], t),
            )
        if s5cmd:
            command5 = [s5cmd, "--endpoint-url", loose[0], "cp", loose[1]]
            measure("loose: s5cmd", images, lambda t: run_program([*command5, f"{t}/"], t))
        measure("loose: bare obstore", images, lambda _: bare_obstore(sorted(files)))
        measure("loose: ours", images, lambda t: ours("s3://bench/loose", None, t)[0])
        measure("tar shards: ours", images, lambda t: ours("s3://bench/tar", None, t)[0])
        measure("zip: ours", images, lambda t: ours("s3://bench/x.zip", None, t)[0])
        wanted = sum(len(files[name]) for name in subset)
        for place in ("x.zip", "x.tar"):
            fetched = 0

            def part(target: Path, place: str = place) -> int:
                nonlocal fetched
                count, fetched = ours(f"s3://bench/{place}", subset, target)
                return count

            measure(f"10 % out of {place}: ours", len(subset), part)
            print(f"{'':42s} {fetched / wanted:9.2f} x the images' own bytes, directory apart")
        report(rates)


def report(rates: dict[str, float]) -> None:
    """Print the ratios that are asked for."""
    for ours_, theirs in (
        ("tar shards: ours", "loose: aws s3 cp"),
        ("tar shards: ours", "loose: s5cmd"),
        ("10 % out of x.zip: ours", "loose: s5cmd"),
        ("10 % out of x.tar: ours", "loose: s5cmd"),
        ("loose: ours", "loose: s5cmd"),
        ("loose: ours", "loose: bare obstore"),
    ):
        if theirs in rates:
            print(f"{ours_} / {theirs}: {rates[ours_] / rates[theirs]:.2f}")


def make_files(count: int) -> dict[str, bytes]:
    """Return that many files of about IMAGE_BYTES that do not compress."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2, count)
    return {f"m/{i:06d}.jpg": rng.bytes(int(size)) for i, size in enumerate(sizes)}


def upload(files: dict[str, bytes]) -> None:
    """Put the files on the server: loose, as two tar shards, as one zip, as one tar with index."""
    store = find_place("s3://bench").store._connect()
    for name, content in files.items():
        obstore.put(store, f"loose/{name}", content)
    names = sorted(files)
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:])):
        obstore.put(
            store,
            f"tar/{number}.tar",
            tar_of({name: files[name] for name in part})[0],
            chunk_size=8 * 2**20,
        )
    archive, index = tar_of(files)
    obstore.put(store, "x.tar", archive, chunk_size=8 * 2**20)
    obstore.put(store, "x.tar.idx", index)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    obstore.put(store, "x.zip", buffer.getvalue(), chunk_size=8 * 2**20)


def tar_of(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Return a tar archive and its index, as NVIDIA DALI's wds2idx writes it."""
    buffer, lines = io.BytesIO(), [f"v1.2 {len(files)}"]
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            lines.append(f"jpg {archive.offset + tarfile.BLOCKSIZE} {len(content)} {name}")
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue(), "\n".join([*lines, ""]).encode()


def ours(url: str, names: list[str] | None, target: Path) -> tuple[int, int]:
    """Fetch members (None: all) the way sources do; return how many, and the bytes transferred."""
    cache = Cache(target)
    origin = open_origin(url, cache)
    assert isinstance(origin, ListedOrigin)
    rows = origin.find(origin.names() if names is None else pa.array(names))
    before = origin._store.bytes_read
    assert not fetch_into(cache, origin, rows)
    return len(rows), origin._store.bytes_read - before


def bare_obstore(names: list[str]) -> int:
    """Read the loose images with obstore and threads and nothing else."""
    store = find_place("s3://bench/loose").store._connect()
    with ThreadPoolExecutor(32) as pool:
        return len(list(pool.map(lambda name: bytes(obstore.get(store, name).bytes()), names)))


def run_program(command: list[str], target: Path) -> int:
    """Run a client; return how many files it brought."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sum(path.is_file() for path in target.rglob("*"))


def plan_in_child(folder: Path, members: int) -> None:
    """Plan over a synthetic ArtiFact in a process of its own, for its own peak memory."""
    archive = folder / "artifact.zip"
    write_sparse_zip(archive, members)
    child = multiprocessing.get_context("spawn").Process(target=plan, args=(archive,))
    child.start()
    child.join()


def write_sparse_zip(path: Path, members: int) -> None:
    """Write a zip64 archive with ArtiFact's names and tables; its images are one hole in the file.

    Not even their local headers are written: millions of fragments would take a file system hours.
    """
    directory, tables, count, offset = bytearray(), [], 0, 0
    half = members // 2
    for method, known in METHODS.items():
        lines = ["filename,image_path,target,category"]
        for number in range(half if method == "stylegan2" else half // (len(METHODS) - 1)):
            image = f"part{number % 100:03d}/img{number:07d}.jpg"
            name, size = f"{method}/{image}".encode(), 12_000 + number % 999
            directory += entry(name, size, 0, offset)
            offset += 30 + len(name) + size
            lines.append(f"img{number:07d}.jpg,{image},{6 * max(known.labels)},human face")
        tables.append((f"{method}/metadata.csv".encode(), "\n".join([*lines, ""]).encode()))
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


def plan(archive: Path) -> None:
    """Print time and memory of reading directory and tables, and of a draw and its plan."""
    start = time.process_time()
    sources = Sources([artifact.build(str(archive))])
    built = time.process_time()
    catalogue = sources.catalogue()
    images = choose(catalogue, sources.licences(), SUBSET)
    drawn = time.process_time()
    found = sources.plan(images)
    end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{len(catalogue)} images: directory and tables {built - start:.1f} CPU-s, draw "
        f"{drawn - built:.1f} s, plan of {len(images)} {end - drawn:.1f} s ({found.requests} "
        f"requests, {found.transfer / found.bytes.sum():.2f} x their bytes); {peak:.2f} GB"
    )


if __name__ == "__main__":
    main()
