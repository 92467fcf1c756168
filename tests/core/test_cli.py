"""The last line that a user reads."""

import logging
import subprocess
import sys

import pytest

from src.core.cli import InputError, run


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [InputError("bad thing"), FileNotFoundError(2, "gone", "x.csv")])
def test_bad_input_is_one_line_and_exit_1(error: Exception) -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: fail(error))
    assert str(stop.value.code) == f"error: {error}"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        run(lambda: fail(KeyError("bug")))


def test_addresses_of_requests_are_not_logged() -> None:
    run(lambda: None)  # a link may hold its signature
    for library in ("httpx2", "botocore.credentials", "aiobotocore.credentials"):
        assert not logging.getLogger(library).isEnabledFor(logging.INFO)


def test_importing_a_stage_does_nothing() -> None:
    code = "import src.core.cli, src.core.tables, logging; print(logging.getLogger().handlers)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"
