"""The last line that a user reads."""

import logging
import signal
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


def python(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys, time\nfrom src.core.cli import run\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_an_interrupt_is_one_line_and_exit_130() -> None:
    with python("run(lambda: (print('on', flush=True), time.sleep(60)))") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == b"interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize("lines", [1, 200_000])  # in the buffer, and beyond it
def test_a_reader_that_leaves_ends_it_without_a_word(lines: int) -> None:
    code = f"sys.stdin.read()\nrun(lambda: [print('line') for _ in range({lines})])"
    with python(code) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_pipe_of_somebody_else_is_reported() -> None:
    with pytest.raises(SystemExit) as stop:
        run(lambda: fail(BrokenPipeError(32, "Broken pipe")))
    assert "Broken pipe" in str(stop.value.code)
