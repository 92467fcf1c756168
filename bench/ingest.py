"""How fast images come from an S3 server on this machine, by layout and client.

`python -m bench.ingest [--images 4000] [--repeats 3]`; `--aws`, `--s5cmd`, `--s3torch`: programs to
compare with (the last one a Python that has s3torchconnector), from an environment of their own.
Ratios within one run count, absolute figures do not; the server shares the processor, so its time
stands beside the client's.
"""

import argparse
import io
import os
import resource
import statistics
import subprocess
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import obstore
import pandas as pd
import pyarrow as pa

from src.core.cli import run
from src.core.hashing import image_key
from src.core.tables import FAKE
from src.dataset.raw import ShardLimits, write_raw
from src.sources.local.cache import Cache
from src.sources.origins import open_origin, with_archives
from src.sources.origins.addresses import find_place, parse_address
from src.sources.origins.stores import Store, http_store
from src.sources.shared.origin_source import OriginSource, fetch_into
from tools.remote.s3_server import Identity, S3Server

IMAGE_BYTES = 12_000
PART_BYTES = 8 * 2**20  # of an upload, as the AWS tools cut it
TICKS = os.sysconf("SC_CLK_TCK")
LOOSE, TARS, ZIP = (f"s3://bench/{place}" for place in ("loose", "tar", "x.zip"))

Work = Callable[[Path], int]  # fills a new folder; returns how many images it has brought

_TORCH = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from s3torchconnector._s3client import S3Client, S3ClientConfig
config = S3ClientConfig(force_path_style=True)
client = S3Client("us-east-1", endpoint=sys.argv[1], s3client_config=config)
keys = [info.key for page in client.list_objects("bench", "loose/") for info in page.object_info]
def fetch(key):
    (Path(sys.argv[2]) / key.replace("/", "_")).write_bytes(client.get_object("bench", key).read())
with ThreadPoolExecutor(32) as pool:
    list(pool.map(fetch, keys))
"""


def main() -> None:
    """Print images per second and processor time of every layout and client, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--aws", help="the aws program")
    parser.add_argument("--s5cmd", help="the s5cmd program")
    parser.add_argument("--s3torch", help="a python that has s3torchconnector")
    args = parser.parse_args()
    owner = Identity("owner", "owner-key", "owner-secret")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with S3Server(folder / "s3", "bench", [owner]) as server:
            os.environ |= {**server.environment(owner), "AWS_ENDPOINT_URL": server.endpoint}
            files = make_files(args.images)
            upload(files)
            # The same bytes from the same server, by plain HTTP.
            web = f"{server.web}/buckets/bench/x.zip"
            works = own_works(files, web) | bare_works(files, web)
            works |= other_works(server.endpoint, args.aws, args.s5cmd, args.s3torch)
            measure(works, args.repeats, folder, server)
            print_waste(files, folder)


def own_works(files: Mapping[str, bytes], web: str) -> dict[str, tuple[int, Work]]:
    """Return what is measured of this project, by name, and how many images it brings.

    `web` is where the zip is without S3.
    """
    subset = drawn(files)
    return {
        "loose: ours": (len(files), lambda t: ours(LOOSE, None, t)[0]),
        "tar shards: ours": (len(files), lambda t: ours(TARS, None, t)[0]),
        "tar shards: ours, to data/raw": (len(files), lambda t: ours_to_raw(TARS, t)),
        "zip: ours": (len(files), lambda t: ours(ZIP, None, t)[0]),
        "10 % of zip: ours": (len(subset), lambda t: ours(ZIP, subset, t)[0]),
        "10 % of zip by HTTP: ours": (len(subset), lambda t: ours(web, subset, t)[0]),
    }


def bare_works(files: Mapping[str, bytes], web: str) -> dict[str, tuple[int, Work]]:
    """Return what obstore takes that reads the same and throws it away: what is possible here."""
    names, count = [f"loose/{name}" for name in files], len(drawn(files))
    of_zip = spans(ZIP, drawn(files))
    s3, http = connect(), http_store(web.rpartition("/")[0])
    return {
        "loose: bare obstore": (len(names), lambda _: bare_obstore(names)),
        "10 % of zip: bare obstore": (count, lambda _: bare_ranges(s3, "x.zip", of_zip, count)),
        "10 % of zip by HTTP: bare obstore": (
            count,
            lambda _: bare_ranges(http, "x.zip", of_zip, count),
        ),
    }


def other_works(
    endpoint: str, aws: str | None, s5cmd: str | None, s3torch: str | None
) -> dict[str, tuple[int, Work]]:
    """Return what is measured of other programs, as far as they are given; 0: as many as come."""
    works: dict[str, tuple[int, Work]] = {}

    def add(name: str, *command: str) -> None:
        works[name] = (0, lambda t: run_program([w.replace("TARGET", str(t)) for w in command], t))

    if s5cmd:
        add("loose: s5cmd", s5cmd, "--endpoint-url", endpoint, "cp", f"{LOOSE}/*", "TARGET/")
    if s3torch:
        add("loose: s3torchconnector", s3torch, "-W", "ignore", "-c", _TORCH, endpoint, "TARGET")
    if aws:
        add("loose: aws s3 cp", aws, "s3", "cp", "--recursive", "--quiet", LOOSE, "TARGET")
    return works


def measure(
    works: Mapping[str, tuple[int, Work]], repeats: int, folder: Path, server: S3Server
) -> None:
    """Run every work `repeats` times, in turns, and print medians and their ratios."""
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, (count, work) in works.items():
            target = Path(tempfile.mkdtemp(dir=folder))
            client, served, start = client_seconds(), server_seconds(server), time.perf_counter()
            got = work(target)
            seconds = time.perf_counter() - start
            assert got == (count or got), (name, got)
            cost = client_seconds() - client, server_seconds(server) - served
            seen[name].append((got / seconds, 1e6 * cost[0] / got, 1e6 * cost[1] / got))
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in seen.items()
    }
    for name, (rate, own, served) in medians.items():
        print(f"{name:34s} {rate:7.0f} images/s, {own:6.0f} us client, {served:5.0f} us server")
    print_ratios(medians)


def print_ratios(medians: Mapping[str, Sequence[float]]) -> None:
    """Print ratios of images per second, and of processor time, which others disturb less."""
    for one, other in (
        ("tar shards: ours", "loose: aws s3 cp"),
        ("tar shards: ours", "loose: s5cmd"),
        ("10 % of zip: ours", "loose: s5cmd"),
        ("10 % of zip by HTTP: ours", "loose: s5cmd"),
        ("10 % of zip by HTTP: ours", "10 % of zip by HTTP: bare obstore"),
        ("10 % of zip: bare obstore", "loose: s5cmd"),
        ("10 % of zip: ours", "10 % of zip: bare obstore"),
        ("loose: ours", "loose: bare obstore"),
        ("loose: ours", "loose: s5cmd"),
        ("loose: ours", "loose: s3torchconnector"),
    ):
        if one in medians and other in medians:
            (rate, *cost), (rate2, *cost2) = medians[one], medians[other]
            print(f"{one} / {other}: {rate / rate2:.2f}, by processor {sum(cost2) / sum(cost):.2f}")


def client_seconds() -> float:
    """Return the processor time of this process and of programs that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def server_seconds(server: S3Server) -> float:
    """Return the processor time of the server."""
    assert server._process is not None
    fields = Path(f"/proc/{server._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def drawn(files: Mapping[str, bytes]) -> list[str]:
    """Return every tenth image, drawn as the stage draws."""
    return sorted(files, key=image_key)[: len(files) // 10]


def print_waste(files: Mapping[str, bytes], folder: Path) -> None:
    """Print how many bytes are read for each byte of a subset's images."""
    subset = drawn(files)
    wanted = sum(len(files[name]) for name in subset)
    read = ours(ZIP, subset, folder / "x.zip")[1]
    print(f"10 % of {ZIP}: {read / wanted:.2f} x the images' own bytes, directory apart")


def make_files(count: int) -> dict[str, bytes]:
    """Return that many files of about IMAGE_BYTES that do not compress."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2, count)
    return {f"m/{i:06d}.jpg": rng.bytes(int(size)) for i, size in enumerate(sizes)}


def connect() -> obstore.store.ObjectStore:
    """Return the bucket."""
    store = find_place(parse_address("s3://bench")).store
    assert isinstance(store, Store)
    return store._connect()


def upload(files: Mapping[str, bytes]) -> None:
    """Put the files on the server: loose, as two tar shards, as one zip."""
    store = connect()
    for name, content in files.items():
        obstore.put(store, f"loose/{name}", content)
    halves = (sorted(files)[number::2] for number in range(2))
    shards = (tar_of({name: files[name] for name in half}) for half in halves)
    archives = {f"tar/{number}.tar": shard for number, shard in enumerate(shards)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    archives["x.zip"] = buffer.getvalue()
    for name, content in archives.items():
        obstore.put(store, name, content, chunk_size=PART_BYTES)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def ours(url: str, names: Sequence[str] | None, target: Path) -> tuple[int, int]:
    """Fetch members (None: all) the way sources do; return how many, and the bytes transferred."""
    cache = Cache(target)
    origin = with_archives(lambda: open_origin(url, cache))
    rows = origin.find(origin.names() if names is None else pa.array(names))
    before = origin._store.bytes_read
    assert not fetch_into(cache, origin, rows)
    return len(rows), origin._store.bytes_read - before


def ours_to_raw(url: str, target: Path) -> int:
    """Fetch all members and write them as the stage does: shards, checksums, indexes, manifest."""
    cache = Cache(target / "cache")
    origin = with_archives(lambda: open_origin(url, cache))
    names = origin.names()
    images = pd.DataFrame({"image_id": names.to_pandas(), "category": "", "given_split": ""})
    images = images.assign(method="m", family="gan", label=FAKE)
    images = images.assign(group=images["image_id"], member=origin.find(names))
    source = OriginSource(origin, images, {"m": "MIT"}, cache)
    images = source.catalogue()
    assert not source.prepare(images)
    contents = (content for _, content in source.fetch(images))
    limits = ShardLimits(images=2000, bytes=256 * 10**6)
    write_raw(target / "raw", images, contents, {"m": (url, "1", "MIT")}, limits)
    return len(images)


def bare_obstore(names: Sequence[str]) -> int:
    """Read objects with obstore and threads and nothing else."""
    store = connect()
    with ThreadPoolExecutor(32) as pool:
        return len(list(pool.map(lambda name: len(obstore.get(store, name).bytes()), names)))


def spans(url: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the ranges that `ours` reads for these members."""
    with tempfile.TemporaryDirectory() as folder:
        origin = open_origin(url, Cache(Path(folder)))
    return [(run.start, run.end) for run in origin._plan(origin.find(pa.array(names)))]


def bare_ranges(
    store: obstore.store.ObjectStore, key: str, ranges: Sequence[tuple[int, int]], count: int
) -> int:
    """Read ranges with obstore and threads and nothing else; `count` images are in them."""

    def read(span: tuple[int, int]) -> int:
        return len(obstore.get_range(store, key, start=span[0], end=span[1]))

    with ThreadPoolExecutor(32) as pool:
        sum(pool.map(read, ranges))
    return count


def run_program(command: list[str], target: Path) -> int:
    """Run a client; return how many files it brought."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sum(path.is_file() for path in target.rglob("*"))


if __name__ == "__main__":
    run(main)
