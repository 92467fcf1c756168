import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from src.core import processor

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def capable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A processor that has all that is needed, in an environment as `src` leaves it."""
    (tmp_path / "cpuinfo").write_text("model name\t: any\nflags\t\t: fpu fma avx2 avx512f\n")
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "_too_late", [])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delenv(processor.EXACT_VARIABLE, raising=False)
    for name, value in processor.SWITCHES.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "cpuinfo"


def test_all_that_is_needed_is_exact() -> None:
    assert processor.is_exact()
    assert processor.warning() is None


def test_every_library_has_read_its_switch() -> None:
    """The tests import `src` first, as everything does."""
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX")
    kernels = {pool.get("architecture") for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert kernels <= {"Haswell"}
    features = np.show_config(mode="dicts")["SIMD Extensions"]
    assert not set(features.get("found", [])) & {"X86_V4"}


@pytest.mark.parametrize("package", ["judge", "studies.compare", "report.page", "tools.gate"])
def test_whatever_is_imported_the_switches_come_first(package: str) -> None:
    code = f"import {package}; from src.core.processor import obstacles; print(obstacles())"
    kept = {key: value for key, value in os.environ.items() if key not in processor.SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, text=True, capture_output=True, check=True
    )
    assert "imported before" not in done.stdout
    assert "environment" not in done.stdout


def test_another_kind_of_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor.warning() == (
        "this processor is aarch64, not x86-64: bits will differ from those of other machines, and "
        "figures agree within their intervals"
    )


def test_what_a_processor_lacks_is_named(capable: Path) -> None:
    capable.write_text("flags\t\t: fpu sse4_2 avx\n")
    assert processor.obstacles() == ["this processor has no AVX2", "this processor has no FMA"]


def test_a_variable_that_undoes_a_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AUTO")
    processor.set_switches()
    assert os.environ["MKL_CBWR"] == "AUTO"
    assert not processor.is_exact()
    assert "MKL_CBWR=AUTO in the environment" in str(processor.warning())


def test_a_library_that_was_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR")
    processor.set_switches()
    assert "numpy was imported before src" in processor.obstacles()
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"  # for the processes that it starts


def test_who_turns_exactness_off_is_not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _path, _command, env: started.append(env))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    processor.restart_without("src.train", ["a"])
    (environment,) = started
    assert set(environment) & set(processor.SWITCHES) == {"OPENBLAS_CORETYPE"}  # it is the user's
    monkeypatch.setenv(processor.EXACT_VARIABLE, environment[processor.EXACT_VARIABLE])
    assert not processor.is_exact()
    assert processor.warning() is None
