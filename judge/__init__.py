"""Use the trained detector: `python -m judge photo.jpg`, or `from judge import Judge`.

judge = Judge.load("models")
judge("photo.jpg").verdict  # real, fake or unsure
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded

# Pillow reads it when it is loaded. Its pixels come in blocks of 16 MB, which the C library keeps
# for each thread that has decoded an image; blocks above 32 MB it gives back to the system.
os.environ.setdefault("PILLOW_BLOCK_SIZE", "64M")

if TYPE_CHECKING:
    from judge.files import Unreadable
    from judge.judging import Judge, Verdict

__all__ = ["Judge", "Unreadable", "Verdict"]


def __getattr__(name: str) -> Any:
    # Looked up when they are used: `python -m judge --help` answers before NumPy is imported.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("judge.files" if name == "Unreadable" else "judge.judging")
    return getattr(module, name)
