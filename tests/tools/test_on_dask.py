"""Tests of tools/on_dask.py: a real scheduler and workers, processes of this machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.cli import InputError
from tests.conftest import ROOT
from tests.helpers.make_data import encode, make_image
from tests.test_metadata import NUMBERS, write_images
from tools import on_dask

pytestmark = pytest.mark.slow

IMAGES = 600  # three pieces


class Cluster:
    """A scheduler; workers start in folders, as they would on other machines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        arguments = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        scheduler = self._start(folder, "dask_scheduler", *arguments)
        self.address = self._wait_for(scheduler, r"Scheduler at:\s+(tcp://\S+)")

    def add_worker(self, folder: Path) -> None:
        """Start a worker in `folder`; return once it is known to the scheduler."""
        arguments = (self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        worker = self._start(folder, "dask_worker", "--host", "127.0.0.1", *arguments)
        self._wait_for(worker, r"(Registered to)")

    def _start(self, folder: Path, program: str, *arguments: str) -> Path:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as output:  # a pipe that nobody reads would fill up
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *arguments],
                cwd=folder,
                env=environment,
                stderr=output,
            )
        self.processes.append(process)
        return log

    def _wait_for(self, log: Path, pattern: str) -> str:
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, log.read_text())):
            if self.processes[-1].poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text())
            time.sleep(0.05)
        return found[1]

    def stop(self) -> None:
        """End all of it."""
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.schema.json"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(NUMBERS.format(0, 0, 4))
    (folder / "data").mkdir()
    pictures = {f"gan/{i:03d}.jpg": encode(make_image(i, 24)) for i in range(IMAGES)}
    write_images(folder / "data" / "raw", pictures)
    return folder


@pytest.fixture
def cluster(checkout: Path) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    started = Cluster(checkout)
    yield started
    started.stop()


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


OUTPUTS = ("data/metadata.csv", "data/metadata.parquet", "metrics/metadata.json")


def outputs(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in OUTPUTS]


def test_a_cluster_writes_the_same_bytes(cluster: Cluster, checkout: Path) -> None:
    done = run_in(checkout, "src.metadata", "data/raw", *OUTPUTS)
    assert done.returncode == 0, done.stderr
    expected = outputs(checkout)
    for path in OUTPUTS:
        (checkout / path).unlink()
    for _ in range(2):
        cluster.add_worker(checkout)
    done = run_in(checkout, "tools.on_dask", cluster.address, "metadata")
    assert done.returncode == 0, done.stderr
    assert "2 workers, 2 threads" in done.stderr
    assert outputs(checkout) == expected


def test_a_worker_with_other_code_is_named(cluster: Cluster, checkout: Path) -> None:
    other = checkout.parent / "other"
    shutil.copytree(checkout, other)
    (other / "src" / "measures.py").write_text("# another version\n")
    cluster.add_worker(other)
    done = run_in(checkout, "tools.on_dask", cluster.address, "metadata")
    assert done.returncode == 1
    assert re.match(r"error: worker tcp://\S+ has other src in the folder", done.stderr)
    assert not (checkout / "data" / "metadata.csv").exists()


def test_a_scheduler_without_the_code_is_named(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (tmp_path / "elsewhere").mkdir()
    cluster = Cluster(tmp_path / "elsewhere")
    cluster.add_worker(checkout)
    done = run_in(checkout, "tools.on_dask", cluster.address, "metadata")
    cluster.stop()
    assert done.returncode == 1
    assert done.stderr.startswith("error: the scheduler has other src in the folder")


def test_a_scheduler_without_workers_is_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_dask, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="has no workers: in this checkout, on every"):
        on_dask.connect(cluster.address)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(on_dask, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp:"):
        on_dask.connect("tcp://127.0.0.1:9")


def test_without_dask_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="Dask is missing"):
        on_dask.connect("tcp://127.0.0.1:9")


def test_the_stages_are_those_that_hand_out_images() -> None:
    users = [
        path.stem
        for path in sorted((ROOT / "src").glob("*.py"))
        if "map_images(" in path.read_text() and path.stem != "parallel"
    ]
    assert tuple(users) == on_dask.STAGES
