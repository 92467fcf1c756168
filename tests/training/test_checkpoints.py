import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from src.core.cli import InputError
from src.training.checkpoints import Checkpoint, fingerprint, only_trainer, scratch_folder

# A loader process outlives its trainer a while; it ends with the input that it inherits.
HOLD = """
import os, sys, time
from pathlib import Path
from src.training.checkpoints import only_trainer
with only_trainer(Path(sys.argv[1])):
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_state_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    assert checkpoint.load() is None
    checkpoint.save({"update": 3, "weights": {"a": torch.ones(2)}, "loss": 0.1})
    checkpoint.save({"update": 4, "weights": {"a": torch.zeros(2)}, "loss": 0.2})
    state = checkpoint.load()
    assert state is not None
    assert (state["update"], state["loss"]) == (4, 0.2)
    assert torch.equal(state["weights"]["a"], torch.zeros(2))
    checkpoint.delete()
    assert not checkpoint.folder.exists()
    checkpoint.delete()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_state_is_ignored_and_reported(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"weights": torch.ones(1000)})
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert checkpoint.load() is None
    assert "damaged" in caplog.text


def test_a_crash_while_saving_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"update": 1})

    def disk_full(_state: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save({"update": 2})
    assert checkpoint.load() == {"update": 1}
    assert list(checkpoint.folder.iterdir()) == [checkpoint.path]


def test_a_second_trainer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {first.pid} is already training"):
            only_trainer(tmp_path).__enter__()
        first.send_signal(signal.SIGKILL)
        first.wait()
        with only_trainer(tmp_path):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_fingerprint_changes_with_parameters_and_inputs(tmp_path: Path) -> None:
    data = tmp_path / "splits.csv"
    data.write_text("a")
    first = fingerprint([{"seed": 0}], [data])
    assert fingerprint([{"seed": 0}], [data]) == first
    assert fingerprint([{"seed": 1}], [data]) != first
    data.write_text("b")
    assert fingerprint([{"seed": 0}], [data]) != first


def test_the_environment_moves_the_scratch_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch_folder() == Path(".scratch/train")
    monkeypatch.setenv("REAL_OR_GENERATED_SCRATCH", "elsewhere")
    assert scratch_folder() == Path("elsewhere/train")
