import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from src.core.cli import InputError
from src.training.launch import PROCESSES_VARIABLE, launch_processes, run_shares
from tests.helpers import ROOT


class Replaced(Exception):  # noqa: N818 - not an error
    """Stands for the end of this process."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def execv(_program: str, command: list[str]) -> None:
        commands.append(command)
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    return commands


def test_one_process_is_the_one_that_runs(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, "1"):
        if value:
            monkeypatch.setenv(PROCESSES_VARIABLE, value)
        launch_processes("src.train", ["a"])
    assert not started


def test_more_are_started_by_torchrun_once(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    with pytest.raises(Replaced):
        launch_processes("src.train", ["a", "b"])
    (command,) = started
    assert command[0] == sys.executable
    assert command[-6:] == ["--nproc-per-node", "2", "-m", "src.train", "a", "b"]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # in what torchrun starts
    launch_processes("src.train", ["a", "b"])


@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_what_is_no_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, value)
    with pytest.raises(InputError, match=f"{PROCESSES_VARIABLE}={value}: set it to"):
        launch_processes("src.train", [])


def test_one_share_and_a_launcher_of_ones_own_start_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_fork(_method: str) -> None:
        raise AssertionError

    ran: list[int] = []
    monkeypatch.setattr(multiprocessing, "get_context", no_fork)
    run_shares(lambda: ran.append(1), 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    run_shares(lambda: ran.append(2), 2)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv(PROCESSES_VARIABLE, "1")
    run_shares(lambda: ran.append(3), 2)
    assert ran == [1, 2, 3]


MEET = """
import os
import torch
from torch import distributed
from src.core.cli import InputError, run
from src.training.launch import run_shares

def main():
    rank = int(os.environ["RANK"])
    number = torch.tensor([float(rank)])
    distributed.all_reduce(number)
    line = f"{rank} of {os.environ['WORLD_SIZE']}: {number.item():g}\\n"
    os.write(1, line.encode())  # in one go: print may write text and line end apart
    if rank in FAILING:
        raise ERROR("too bad")

run(lambda: run_shares(main, 3))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "error", "said"),
    [
        ((), "", ""),
        ((2,), "ValueError", "1 of 2 processes beside this one ended with [1]: see above"),
        ((0, 1, 2), "InputError", "error: too bad"),
    ],
)
def test_shares_meet_and_end_together(failing: tuple[int, ...], error: str, said: str) -> None:
    code = MEET.replace("FAILING", str(failing)).replace("ERROR", error or "ValueError")
    environment = {k: v for k, v in os.environ.items() if k != PROCESSES_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert "0 of 3: 3" in done.stdout.splitlines()
    assert done.returncode == bool(failing)
    assert said in done.stderr
    assert done.stderr.count("too bad") == bool(failing)


DIE = """
import os, signal, time
import src.training.launch as launch
from src.core.cli import InputError, run

first, join = os.getpid(), launch._join

def die(rank, shares, folder):
    if rank == RANK:
        HOW
    join(rank, shares, folder)

def main():
    if rank() == RANK:
        HOW_LATER
    launch.distributed.barrier()
    launch.distributed.barrier()

def rank():
    return int(os.environ["RANK"])

launch._join = die
print("on", flush=True)
run(lambda: launch.run_shares(main, 3))
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "how", "later", "said"),
    [
        (1, KILLED, "pass", "is there enough memory?"),
        (2, "os._exit(7)", "pass", "ended with [7]"),
        (2, "raise ValueError", "pass", "ended with [1]: see above"),
        (2, "pass", KILLED, "is there enough memory?"),
    ],
)
def test_a_share_that_dies_ends_the_others_in_one_line(
    rank: int, how: str, later: str, said: str
) -> None:
    begin = time.monotonic()
    with died(rank, how, later) as process:
        _, stderr = process.communicate(timeout=100)
    assert process.returncode == 1
    lines = stderr.splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith(
        "error: train.shares: 1 of 2 processes beside this one ended with ["
    )
    assert "Traceback" not in stderr or "ValueError" in how
    assert time.monotonic() - begin < 90


def test_shares_end_with_the_first_that_is_killed() -> None:
    with died(0, KILLED, "pass") as process:
        stdout, _ = process.communicate(timeout=100)  # until the last has closed the pipe
    assert (process.returncode, stdout) == (-signal.SIGKILL, "on\n")


def died(rank: int, how: str, later: str) -> "subprocess.Popen[str]":
    code = DIE.replace("HOW_LATER", later).replace("HOW", how).replace("RANK:", f"{rank}:")
    environment = {k: v for k, v in os.environ.items() if k != PROCESSES_VARIABLE}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
