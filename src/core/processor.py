"""What makes every x86-64 processor with AVX2 compute the same bits; `src` sets it when imported.

Libraries choose their kernels by the processor that they find, and each kernel adds up in an order
of its own. They read these switches from the environment when they are loaded, once: whatever
imports NumPy or PyTorch imports `src` first. Worker processes inherit them.
"""

from __future__ import annotations  # the doctor must start in a Python that is too old

import os
import platform
import sys
from pathlib import Path

EXACT_VARIABLE = "REAL_OR_GENERATED_EXACT"  # 0: the switches are off, as train.exact: false asks

SWITCHES = {
    # PyTorch's own loops: vectors of 256 bits, also where the processor has 512.
    "ATEN_CPU_CAPABILITY": "avx2",
    # oneDNN, PyTorch's convolutions and (models.shared.products) products of matrices: likewise.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # MKL, PyTorch's linear algebra: it has other kernels for AMD's, and only these for everybody's.
    "MKL_CBWR": "COMPATIBLE",
    # NumPy: exponentials of 512 bits have other last digits, and each sort has its own order of
    # equals. Those of AVX2 stay: every processor that is promised the same bits has them.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    # OpenBLAS, the products of NumPy and SciPy: one kernel for all.
    "OPENBLAS_CORETYPE": "Haswell",
    # The same with one core as with many: a sum that threads share is added up in another order.
    "OPENBLAS_NUM_THREADS": "1",
    # OpenCV's cosine transform comes from Intel's library, in a variant for each vector width.
    "OPENCV_IPP": "avx2",
}
_NEEDED = ("avx2", "fma")  # names of the Linux kernel
_CPUINFO = Path("/proc/cpuinfo")

_too_late: list[str] = []  # libraries that were loaded before their switches were set


def set_switches() -> None:
    """Set every switch that the environment has not; nothing where exactness is turned off."""
    if not is_asked_for():
        return
    if any(name not in os.environ for name in SWITCHES):
        _too_late.extend(name for name in ("numpy", "torch", "cv2") if name in sys.modules)
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)


def is_asked_for() -> bool:
    """Return whether exactness is on in this process; whether it can be had is another matter."""
    return os.environ.get(EXACT_VARIABLE) != "0"


def is_exact() -> bool:
    """Return whether this process computes the bits that all such processors do."""
    return is_asked_for() and not obstacles()


def obstacles() -> list[str]:
    """Return why bits will differ from those of other machines, if exactness is on."""
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        return [f"this processor is {machine}, not x86-64"]
    found = [f"this processor has no {name.upper()}" for name in _NEEDED if not _has(name)]
    found += [f"{name} was imported before src" for name in _too_late]
    return found + [
        f"{name}={os.environ.get(name, '')} in the environment, not {value!r}"
        for name, value in SWITCHES.items()
        if os.environ.get(name) != value
    ]


def warning() -> str | None:
    """Return what a user should know about the bits, in one line; None: nothing."""
    if not is_asked_for() or not (found := obstacles()):
        return None
    return (
        f"{'; '.join(found)}: bits will differ from those of other machines, and figures agree "
        "within their intervals"
    )


def restart_without(module: str, arguments: list[str]) -> None:
    """Replace this process by `python -m module` with the switches off."""
    kept = {k: v for k, v in os.environ.items() if SWITCHES.get(k) != v}
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**kept, EXACT_VARIABLE: "0"})


def _has(feature: str) -> bool:
    try:
        text = _CPUINFO.read_text(encoding="utf-8")
    except OSError:  # no Linux: PyTorch has no such build for x86-64 any more
        return True
    flags = next((line for line in text.splitlines() if line.startswith("flags")), feature)
    return feature in flags.split()
