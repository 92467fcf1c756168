"""Checks run on another processor: emulated by `qemu-x86_64` (Debian's qemu-user), or pretended.

The emulator carries out every instruction as that processor would, 25 times slower than this one.
A disguise is as fast as this machine: CPUID, by which libraries choose their loops, answers what it
answers in the emulator, and what is chosen then runs here.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from src.core.processor import EXACT_VARIABLE, SWITCHES
from tests.helpers import ROOT

EMULATOR, COMPILER = "qemu-x86_64", "gcc"
HASWELL, EPYC = "Haswell", "EPYC"  # of Intel and of AMD; each has AVX2, none has AVX-512
PROCESSORS = (EPYC, HASWELL, "Skylake-Client", "EPYC-Milan")
NUMPY_SWITCH = "NPY_DISABLE_CPU_FEATURES"
SWITCHED_OFF = {EXACT_VARIABLE: "0"}
# The emulator cannot run NumPy's sorts for AVX2: left out on both sides of a comparison with it.
EMULATED = {NUMPY_SWITCH: f"X86_V3 {SWITCHES[NUMPY_SWITCH]}"}
FAILED = "failed"  # instead of a digest


def other_vendors() -> str:
    """Return a processor of another vendor than this machine's."""
    is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return HASWELL if is_amd else EPYC


def has_emulator() -> bool:
    """Return whether the emulator is installed."""
    return shutil.which(EMULATOR) is not None


def obstacle() -> str:
    """Return why this machine cannot pose as another, in one line; "" if it can."""
    missing = [name for name in (EMULATOR, COMPILER) if not shutil.which(name)]
    if missing:
        return f"there is no {' and no '.join(missing)}: apt-get install qemu-user gcc libc6-dev"
    if "cpuid_fault" not in Path("/proc/cpuinfo").read_text(encoding="utf-8").split():
        return "this processor cannot pose as another (no cpuid_fault in /proc/cpuinfo)"
    return ""


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


def disguise(folder: Path, processor: str) -> dict[str, str]:
    """Return variables that let a process take this machine for `processor`; makes `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = Path(__file__).parent
    identity, library = folder / "identity", folder / "disguise.so"
    for source, made, options in (
        ("identity.c", identity, ["-static"]),
        ("disguise.c", library, ["-shared", "-fPIC"]),
    ):
        command = [COMPILER, "-O1", *options, "-o", str(made), str(sources / source)]
        subprocess.run(command, check=True)
    table = folder / "cpuid.txt"
    with table.open("w", encoding="utf-8") as file:
        command = [EMULATOR, "-cpu", processor, str(identity)]
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL)
    return {"CPUID_TABLE": str(table), "LD_PRELOAD": str(library)}


def compute(
    checks: Iterable[str], folder: Path, python: str | Path, variables: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each check and its digest, FAILED where `python` ended in the middle of it.

    `folder` is that of a small run; what the checks say goes to its log.txt.
    """
    left = list(checks)
    while left:
        command = [str(python), "-m", "tests.emulation.worker", *left]
        with (
            (folder / "log.txt").open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command,
                cwd=folder,
                env={**_environment(), **variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                name, digest = line.rstrip("\n").split("\t")
                left.remove(name)
                yield name, digest
        if process.returncode:
            yield left.pop(0), FAILED


def _environment() -> dict[str, str]:
    """Return what a run in another folder needs, without what this machine may have set."""
    kept = {key: value for key, value in os.environ.items() if key not in SWITCHES}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        # The emulator cannot start threads in a forked process.
        "REAL_OR_GENERATED_WORKERS": "0",
        "LOKY_MAX_CPU_COUNT": "1",
    }
