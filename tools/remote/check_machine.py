"""This machine and this checkout -> findings: Python, packages, pipeline, disk, accelerator.

Packages are imported where they are used: a check must be able to say that one is missing. It must
also be able to say that Python is too old: nothing here is read at import that 3.8 lacks.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo
    from packaging.requirements import Requirement

from tools.remote.finding import Finding, fail, ok, warn

OLDEST_PYTHON = (3, 11)
# What a run of the pipeline writes beside the data: environments, checkpoints, temporary files.
SPARE_BYTES = 5_000_000_000
ENVIRONMENT_BYTES = 7_000_000_000
SHARED_BYTES = 1_000_000_000  # Docker gives 64 MB
SYSTEMS = ("Linux", "Darwin")
SETUP = "make setup"
NO_LOCK = "git checkout dvc.lock; where nobody has built yet: make repro"


def check_python(version: tuple[int, int]) -> Finding:
    """Return whether this Python runs the project."""
    found = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return ok("python", found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return fail("python", found, f"{oldest} or newer is needed: make clean setup PYTHON=...")


def check_system(system: str) -> Finding:
    """Return whether the project runs on this operating system."""
    if system in SYSTEMS:
        return ok("system", system)
    advice = "Linux or macOS is needed; on Windows, WSL 2: wsl --install"
    return fail("system", system or "unknown", advice)


def check_environment_disk(root: Path, prefix: Path) -> Iterator[Finding]:
    """Yield whether the environment fits where there is none yet."""
    free = shutil.disk_usage(root).free
    if not (prefix / ".ready").exists() and free < ENVIRONMENT_BYTES:
        needed = f"{ENVIRONMENT_BYTES / 1e9:.0f} GB are needed for .venv and the sample"
        yield fail("disk", f"{free / 1e9:.1f} GB free in {root}, {needed}", "free space")


def check_shared_memory(folder: Path) -> Iterator[Finding]:
    """Yield a warning where the processes that decode images have too little to hand them over."""
    size = shutil.disk_usage(folder).total if folder.is_dir() else SHARED_BYTES
    if size < SHARED_BYTES:
        yield warn(
            "shared memory",
            f"{folder} has {size / 1e6:.0f} MB, batches of large images need up to "
            f"{SHARED_BYTES / 1e9:.0f} GB",
            "docker run --shm-size=2g (Kubernetes: an emptyDir of medium Memory), or "
            "REAL_OR_GENERATED_WORKERS=0",
        )


def check_packages(requirements: Path) -> Finding:
    """Return whether what is installed is what `requirements` (pinned, as uv writes it) names."""
    try:
        pins = list(_pins(requirements))
    except ImportError as error:
        return fail("packages", str(error), SETUP)
    except (OSError, ValueError) as error:
        return fail(
            "packages", str(error), f"git checkout {requirements}, or compile it again: make lock"
        )
    wanted = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    wrong = [text for pin in wanted if (text := _difference(pin))]
    if not wrong:
        return ok("packages", f"{len(wanted)} as {requirements.name} pins them, in {sys.prefix}")
    shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return fail("packages", shown, f"rm {Path(sys.prefix, '.ready')}; {SETUP}")


def _pins(requirements: Path) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    logical = requirements.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in logical:
        pin = line.split(" --hash")[0].strip()
        if pin and not pin.startswith("#"):
            try:
                yield Requirement(pin)
            except InvalidRequirement as error:
                raise ValueError(f"{requirements.name}: {pin!r} is no requirement") from error


def _difference(pin: Requirement) -> str:
    try:
        installed = metadata.version(pin.name)
    except metadata.PackageNotFoundError:
        return f"{pin.name} is missing"
    if pin.specifier.contains(installed, prereleases=True):
        return ""
    return f"{pin.name} is {installed}, not {pin.specifier}"


def check_accelerator() -> Finding:
    """Return what training will run on."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of the driver is missing
        return fail("accelerator", f"torch does not import: {error}", SETUP)
    if not torch.accelerator.is_available():
        return warn(
            "accelerator", "none", "the sample trains on the processor; the full data want a GPU"
        )
    device = torch.accelerator.current_accelerator()
    if device is not None and device.type == "cuda":
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info())
        name = torch.cuda.get_device_name()
        return ok("accelerator", f"{name}, {free:.0f} of {total:.0f} GB free")
    return ok("accelerator", str(device))


def check_processor() -> Finding:
    """Return whether this processor computes the bits that are committed."""
    from src.core import processor

    if found := processor.warning():
        return warn("processor", found, "docs/reproduction.md")
    return ok("processor", "computes the same bits as any x86-64 one with AVX2")


def check_disk(what: str, folder: Path, needed: int) -> Finding:
    """Return whether `needed` bytes, those still to be pulled, fit into `folder`."""
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free in {folder}"
    if free < needed:
        return fail(
            what,
            f"{found}, {needed / 1e9:.1f} GB still to pull",
            'free space: docs/remote.md, "Free space"',
        )
    if free < needed + SPARE_BYTES:
        return warn(what, found, 'little: docs/remote.md, "Free space"')
    return ok(what, found)


def check_checkout(root: Path) -> Iterator[Finding]:
    """Yield whether workspace and dvc.lock agree, and whether the disks are large enough."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from src.core.cli import InputError
    from tools.dvc_files import unreadable
    from tools.remote.s3_errors import first_line
    from tools.remote.stored_objects import outputs

    if damaged := [fail("pipeline", *problem) for problem in unreadable(root)]:
        yield from damaged
        return
    try:
        with Repo(str(root)) as repo:
            yield _check_lock(root, repo)
            folders = {"workspace disk": root, "cache disk": Path(repo.cache.local.path)}
            to_pull = sum(
                out.meta.size or 0
                for out in outputs(repo)
                if out.use_cache and not out.cache.exists(out.hash_info.value)
            )
    except (DvcException, InputError) as error:
        advice = "correct dvc.yaml, or restore it: git checkout HEAD -- dvc.yaml dvc.lock"
        yield fail("pipeline", first_line(error), advice)
        return
    devices = set()
    for what, folder in folders.items():
        existing = folder if folder.exists() else root
        if (device := existing.stat().st_dev) not in devices:
            devices.add(device)
            yield check_disk(what, existing, to_pull)


def _check_lock(root: Path, repo: Repo) -> Finding:
    if not (root / "dvc.lock").exists():
        return warn("pipeline", "there is no dvc.lock", NO_LOCK)
    # The studies run when somebody asks for them.
    changes = repo.status([str(root / "dvc.yaml")])
    if not changes:
        return ok(
            "pipeline",
            "the workspace is what dvc.lock says, by sizes and times (make verify reads all)",
        )
    shown = ", ".join(sorted(changes)[:5]) + (", ..." if len(changes) > 5 else "")
    return warn(
        "pipeline",
        f"{len(changes)} stages differ from dvc.lock: {shown}",
        "dvc pull for what was built elsewhere, then dvc repro; dvc status says why",
    )
