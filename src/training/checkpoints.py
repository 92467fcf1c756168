"""The state of an unfinished training run: where it lives, who may touch it, when it is valid."""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch

from src.core.cli import InputError
from src.core.files import replacing
from src.core.processor import is_exact

logger = logging.getLogger(__name__)

SCRATCH_VARIABLE = "REAL_OR_GENERATED_SCRATCH"
_LIBRARIES = ("accelerate", "albumentations", "numpy", "opencv-python-headless", "timm", "torch")
_FINISHED = "finished"
_DIGEST_BYTES, _PIECE = 32, 1 << 20
_SOURCES = Path(__file__).parents[1]
# Beside the detector's own file; tests/training/test_checkpoints.py compares it with dvc.yaml.
_CODE = (
    "core/*.py",
    "dataset/columns.py",
    "evaluation/ranking.py",
    "images/*.py",
    "inference/scorer.py",
    "models/shared/*.py",
    "reporting/drawing.py",
    "train.py",
    "training/*.py",
)


def scratch_folder() -> Path:
    """Return the folder for unfinished runs; the environment variable moves it."""
    return Path(os.environ.get(SCRATCH_VARIABLE, ".scratch")) / "train"


def code_files(detector: str) -> list[Path]:
    """Return the files of ours that training `detector` runs."""
    patterns = *_CODE, f"models/{detector}.py"
    return sorted(path for pattern in patterns for path in _SOURCES.glob(pattern))


def arithmetic() -> dict[str, Any]:
    """Return what bits depend on beside parameters, data and code.

    Who resumes with another one would finish a run whose weights are those of no machine.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return {"exact": is_exact(), "accelerator": accelerator.type if accelerator else "cpu"}


def fingerprint(parameters: Sequence[Any], files: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits that change with parameters, files or libraries."""
    digest = hashlib.blake2b(digest_size=8)
    known = {"parameters": parameters, "libraries": {name: version(name) for name in _LIBRARIES}}
    digest.update(json.dumps(known, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, hashlib.blake2b).digest())
    return digest.hexdigest()


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


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the checksum of the first `size` bytes of `file`, which is left behind them."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    file.seek(0)
    for start in range(0, size, _PIECE):
        digest.update(file.read(min(_PIECE, size - start)))
    return digest.digest()


class Checkpoint:
    """The last saved state of one run: whole, or absent.

    It outlives a finished run until the next one begins: whatever loses the results after that (a
    full disk, a kill before DVC has noted them), a repeat has them without training anew.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the state in `folder`, which belongs to this run alone."""
        self.folder = folder
        self.path = folder / "state.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state; a crash at any moment leaves the old or the new one.

        Raises:
            OSError: it cannot be written (a full disk); the error names the file.
        """
        with replacing(self.path) as temporary, temporary.open("w+b") as file:
            try:
                torch.save(dict(state), file)
                file.write(_digest(file, file.tell()))  # torch itself checks no sums
            except RuntimeError as error:  # torch hides what kept it from writing
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, on the CPU; None if there is none, or a damaged one."""
        try:
            with self.path.open("rb") as file:
                size = max(0, self.path.stat().st_size - _DIGEST_BYTES)
                if _digest(file, size) != file.read():
                    logger.warning("%s is damaged: training starts anew", self.path)
                    shutil.rmtree(self.folder, ignore_errors=True)  # several processes come here
                    return None
        except FileNotFoundError:
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def finish(self) -> None:
        """Mark the run as complete."""
        (self.folder / _FINISHED).touch()

    def remove_finished(self) -> None:
        """Delete what other runs left that are complete."""
        for mark in self.folder.parent.glob(f"*/{_FINISHED}"):
            if mark.parent != self.folder:
                shutil.rmtree(mark.parent)
