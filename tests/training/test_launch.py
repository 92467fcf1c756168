import os
import sys

import pytest

from src.core.cli import InputError
from src.training.launch import PROCESSES_VARIABLE, launch_processes


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
