"""What runs the network: PyTorch, or ONNX Runtime without PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from src.core.cli import InputError
from src.evaluation.calibration import Calibration
from src.images.crops import Crops
from src.images.decode import RGBImage

RUNTIMES = ("auto", "onnx", "torch")


class Runtime(Protocol):
    """A trained network, and what a verdict takes beside its logits."""

    name: str
    size: int  # pixels a side of a crop
    calibration: Calibration
    trained_on: str  # a sentence
    weights_sha256: str

    def crop(self, image: RGBImage) -> Crops:
        """Return the crops that an image is judged by, (crops, size, size, 3)."""

    def embed(self, images: Sequence[Crops]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return log odds (n,) and features (n, width), means over the crops of each image."""

    def logits(self, crops: Crops) -> NDArray[Any]:
        """Return the logits of crops, (B, classes)."""


def find_file(models: Path, name: str) -> Path:
    """Return the path of a file of the trained model in the folder `models`.

    Raises:
        InputError: it is missing.
    """
    path = models / name
    if not path.is_file():
        raise InputError(
            f"{path} is missing: fetch the trained model with `dvc pull`, or train it with "
            "`make repro`"
        )
    return path


def load_runtime(models: Path, name: str, threads: int = 0) -> Runtime:
    """Return the network in the folder `models`, run by `name`; auto: by ONNX where it is exported.

    `threads` are those of ONNX Runtime, 0: one per core.

    Raises:
        InputError: there is no such runtime, or a file is missing or damaged.
    """
    # Imported here: who uses one need not wait for the other, nor install it.
    if name not in RUNTIMES:
        raise InputError(f"runtime {name!r}: choose one of {', '.join(RUNTIMES)}")
    from judge.onnx_runtime import OnnxRuntime, is_exported

    if name == "onnx" or (name == "auto" and is_exported(models)):
        return OnnxRuntime(models, threads)
    find_file(models, "detector.safetensors")  # before a missing PyTorch is the matter
    try:
        from judge.torch_runtime import TorchRuntime
    except ModuleNotFoundError as error:
        raise InputError(
            f"runtime torch: no module {error.name}: it takes a clone of the repository with all "
            "that its requirements.txt names; otherwise fetch an exported detector"
        ) from error
    return TorchRuntime(models)
