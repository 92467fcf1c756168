"""A stage's pass over the images, on a Dask cluster: python -m tools.on_dask SCHEDULER metadata.

The stage itself runs here, as `dvc repro` would run it; joblib hands its pieces to the cluster's
workers, in the same pieces and the same order, so the outputs are the same to the byte.
"""

import argparse
import hashlib
import importlib
import logging
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import yaml

from src.core.cli import InputError, run
from src.dataset.manifest import MANIFEST

logger = logging.getLogger("on_dask")

STAGES = ("metadata", "shortcuts")  # those that call `parallel.map_images`
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "simplejpeg")  # what pixels go through
CONNECT_SECONDS = 20
RAW = Path("data/raw")


def connect(scheduler: str) -> Any:
    """Return a client of the cluster at `scheduler`, which has a worker.

    Raises:
        InputError: Dask is not installed, or nobody answers, or there are no workers.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise InputError(
            f"Dask is missing ({error}): make setup, or uv pip install distributed"
        ) from error
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler}: start one in a checkout of this "
            f"commit, PYTHONPATH=. dask scheduler, and mind firewalls ({error})"
        ) from error
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        client.close()
        raise InputError(
            f"the scheduler {scheduler} has no workers: in this checkout, on every machine, start "
            f"PYTHONPATH=. dask worker {scheduler}"
        ) from error
    return client


def describe(folder: str) -> dict[str, str]:
    """Return what must be the same on every machine: code, packages and data in `folder`."""
    root = Path(folder)
    code = hashlib.sha256()
    for path in sorted((root / "src").rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    manifest = root / RAW / MANIFEST
    raw = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "missing"
    return {
        "src": code.hexdigest(),
        str(RAW): raw,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def check_cluster(client: Any) -> None:
    """Check that every worker would compute what this machine would.

    Raises:
        InputError: a worker has other code, packages or data, or the scheduler other code or
            packages; it is named.
    """
    here = describe(".")
    cluster = {f"worker {name}": there for name, there in client.run(describe, ".").items()}
    # It unpacks what it hands on, and without the code all would wait in silence, for ever.
    cluster["the scheduler"] = client.run_on_scheduler(describe, ".") | {str(RAW): here[str(RAW)]}
    for member, there in cluster.items():
        other = [name for name, value in here.items() if there[name] != value]
        if other:
            raise InputError(
                f"{member} has other {', '.join(other)} in the folder it was started in: start it "
                "in a checkout of this commit with the same environment and data/raw (a shared "
                "folder, or dvc pull data/raw)"
            )


def arguments_of(stage: str) -> list[str]:
    """Return the paths that dvc.yaml gives a stage."""
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    command: str = pipeline["stages"][stage]["cmd"]
    return command.split()[3:]  # python -m src.<stage>


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage, and say how to record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scheduler", help="its address, as in tcp://host:8786")
    parser.add_argument("stage", choices=STAGES)
    args = parser.parse_args(argv)
    client = connect(args.scheduler)
    try:
        check_cluster(client)
        logger.info("%d workers, %d threads", len(client.ncores()), sum(client.ncores().values()))
        with joblib.parallel_config(backend="dask", client=client):
            importlib.import_module(f"src.{args.stage}").main(arguments_of(args.stage))
    finally:
        client.close()
    logger.info("done; `dvc commit --force %s` records it", args.stage)


if __name__ == "__main__":
    run(main)
