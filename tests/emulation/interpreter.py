"""A Python that runs on another processor, emulated by `qemu-x86_64` (Debian's qemu-user)."""

import os
import shutil
import stat
import sys
from pathlib import Path

from src.core.processor import SWITCHES

EMULATOR = "qemu-x86_64"
HASWELL, EPYC = "Haswell", "EPYC"  # of Intel and of AMD; each has AVX2, none has AVX-512
PROCESSORS = (HASWELL, "Skylake-Client", EPYC, "EPYC-Milan")


def other_vendors() -> str:
    """Return a processor of another vendor than this machine's."""
    is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return HASWELL if is_amd else EPYC


def has_emulator() -> bool:
    """Return whether the emulator is installed."""
    return shutil.which(EMULATOR) is not None


def emulated_python(folder: Path, processor: str) -> Path:
    """Make a virtual environment in `folder` whose Python runs on `processor`; return that Python.

    It has the packages of this one. The processes that it starts run on `processor` as well: what
    they start is the same script.
    """
    (folder / "bin").mkdir(parents=True)
    prefix = Path(sys.prefix)
    shutil.copy(prefix / "pyvenv.cfg", folder)
    (folder / "lib").symlink_to(prefix / "lib")
    python = folder / "bin" / "python"
    real = Path(sys.executable).resolve()
    # The name that it is called by (-0) tells Python which environment it is in.
    python.write_text(f'#!/bin/sh\nexec {EMULATOR} -cpu {processor} -0 "$0" {real} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def environment(root: Path) -> dict[str, str]:
    """Return what a run in another folder needs, without what this machine may have set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS")}
    return kept | {
        "PYTHONPATH": str(root),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        # The emulator cannot run NumPy's sorts for AVX2, which are left out here on both sides.
        "NPY_DISABLE_CPU_FEATURES": f"X86_V3 {SWITCHES['NPY_DISABLE_CPU_FEATURES']}",
        # Nor can it start threads in a forked process.
        "REAL_OR_GENERATED_WORKERS": "0",
        "LOKY_MAX_CPU_COUNT": "1",
    }
