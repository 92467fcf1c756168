"""The state of an unfinished training run: where it lives, who may touch it, when it is valid."""

import fcntl
import hashlib
import json
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from src.core.cli import InputError
from src.core.files import replacing

logger = logging.getLogger(__name__)

SCRATCH_VARIABLE = "REAL_OR_GENERATED_SCRATCH"
_LIBRARIES = ("accelerate", "albumentations", "numpy", "opencv-python-headless", "timm", "torch")
_SOURCES = Path(__file__).parents[1]


def scratch_folder() -> Path:
    """Return the folder for unfinished runs; the environment variable moves it."""
    return Path(os.environ.get(SCRATCH_VARIABLE, ".scratch")) / "train"


def fingerprint(parameters: Sequence[Any], inputs: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits that change with parameters, input files, code or libraries."""
    digest = hashlib.blake2b(digest_size=8)
    known = {"parameters": parameters, "libraries": {name: version(name) for name in _LIBRARIES}}
    digest.update(json.dumps(known, sort_keys=True).encode())
    for path in [*inputs, *_loaded_sources()]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, hashlib.blake2b).digest())
    return digest.hexdigest()


def _loaded_sources() -> list[Path]:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return sorted(path for path in map(Path, filter(None, files)) if _SOURCES in path.parents)


@contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Hold the right to train in `folder`; the system lets go of it when the process dies.

    Raises:
        InputError: another process is training here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            # Not flock: loader processes inherit its lock, and outlive a killed trainer a while.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise InputError(
                f"process {lock.read().strip()} is already training in {folder}: wait for it, or "
                f"stop it, or set {SCRATCH_VARIABLE} to another folder"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


class Checkpoint:
    """The last saved state of one run: whole, or absent."""

    def __init__(self, folder: Path) -> None:
        """Keep the state in `folder`, which belongs to this run alone."""
        self.folder = folder
        self.path = folder / "state.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state; a crash at any moment leaves the old or the new one."""
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            torch.save(dict(state), file)

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, on the CPU; None if there is none, or a damaged one."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            logger.warning("%s is damaged, training starts anew: %s", self.path, error)
            return None
        return state

    def delete(self) -> None:
        """Remove the run's folder: it is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
