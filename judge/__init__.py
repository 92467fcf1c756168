"""Use the trained detector: `python -m judge photo.jpg`, or `from judge import Judge`.

judge = Judge.load("models")
judge("photo.jpg").verdict  # real, fake or unsure
"""

import importlib
from typing import TYPE_CHECKING, Any

import src as src  # first: it sets what NumPy and PyTorch read when they are loaded

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
