"""The same bytes on the processor of another vendor: see docs/reproduction.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.core import processor
from tests.emulation.interpreter import (
    EMULATED,
    FAILED,
    compute,
    disguise,
    emulated_python,
    has_emulator,
    obstacle,
    other_vendors,
)
from tests.emulation.ledger import OFF, Ledger, Row
from tests.emulation.small_run import STAGES, prepare

# What NumPy has found says whether the disguise is seen.
SEEN = "import numpy; print(numpy._core._multiarray_umath.__cpu_features__['AVX512F'])"


@pytest.fixture(autouse=True)
def exact_machine() -> None:
    if warning := processor.warning():
        pytest.skip(warning)


@pytest.mark.slow
@pytest.mark.skipif(not has_emulator(), reason="needs qemu-x86_64: apt-get install qemu-user")
def test_the_pipeline_writes_the_same_bytes_on_another_vendors_processor(tmp_path: Path) -> None:
    pythons = {
        "native": Path(sys.executable),
        "emulated": emulated_python(tmp_path / "venv", other_vendors()),
    }
    found = {}
    for name, python in pythons.items():
        prepare(tmp_path / name)
        found[name] = dict(compute(STAGES, tmp_path / name, python, EMULATED))
    assert found["emulated"] == found["native"]


@pytest.mark.slow
@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
def test_a_machine_that_poses_as_another_computes_the_same_bytes(tmp_path: Path) -> None:
    checks = [
        "products of matrices",
        "`beit3_tiny`",
        "`mobilenet_v2`",
        "ONNX Runtime: `beit3_tiny`",
    ]
    found = []
    for variables in ({}, disguise(tmp_path / "disguise", other_vendors())):
        found.append(dict(compute(checks, tmp_path, sys.executable, variables)))
    assert list(found[0]) == checks
    assert found[1] == found[0]
    command = [sys.executable, "-c", SEEN]
    seen = subprocess.run(command, env=os.environ | variables, text=True, capture_output=True)
    assert seen.stdout == "False\n"


def test_a_row_holds_until_this_machine_finds_something_else(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.tsv")
    ledger.add(Row("EPYC", "one", "a", "b"))
    ledger.add(Row("EPYC", "one", "a", "a"))
    ledger.add(Row("EPYC", "two", "a", "b"))
    ledger.add(Row("EPYC", "three", "a", FAILED))
    ledger.add(Row(OFF, "two", "a", "b"))
    again = Ledger(tmp_path / "ledger.tsv")
    said = [again.verdict("EPYC", check, "a") for check in ("one", "two", "three", "four")]
    assert said == ["same", "**other**", "**failed**", "not run"]
    assert again.verdict(OFF, "two", "a") == "other"  # as it should be there
    assert again.verdict("EPYC", "one", "c") == "not run"
