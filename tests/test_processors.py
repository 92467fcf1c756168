"""The same bytes on the processor of another vendor, emulated: see docs/reproduction.md."""

import sys
from pathlib import Path

import pytest

from src.core import processor
from tests.emulation.interpreter import emulated_python, has_emulator, other_vendors
from tests.emulation.small_run import small_run


@pytest.mark.slow
@pytest.mark.skipif(not has_emulator(), reason="needs qemu-x86_64: apt-get install qemu-user")
def test_the_pipeline_writes_the_same_bytes_on_another_vendors_processor(tmp_path: Path) -> None:
    if warning := processor.warning():
        pytest.skip(warning)
    native = small_run(tmp_path / "native", sys.executable)
    python = emulated_python(tmp_path / "venv", other_vendors())
    assert small_run(tmp_path / "emulated", python) == native
