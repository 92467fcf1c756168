import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from src.core.cli import InputError
from src.training.checkpoints import (
    Checkpoint,
    code_files,
    fingerprint,
    only_trainer,
    scratch_folder,
)
from tests.helpers import ROOT
from tests.helpers.full_disk import limited_files

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


def test_what_a_finished_run_leaves_goes_when_another_begins(tmp_path: Path) -> None:
    finished, unfinished, mine = (Checkpoint(tmp_path / name) for name in "abc")
    for checkpoint in (finished, unfinished, mine):
        checkpoint.save({"update": 1})
    finished.finish()
    mine.finish()
    mine.remove_finished()
    assert finished.load() is None
    assert unfinished.load() == mine.load() == {"update": 1}


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_state_is_reported_and_removed(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"weights": torch.ones(1000)})
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert checkpoint.load() is None
    assert "damaged" in caplog.text
    assert not checkpoint.folder.exists()


def test_no_changed_bit_is_resumed_from(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"update": 3, "weights": {"a": torch.arange(40.0)}})
    whole = checkpoint.path.read_bytes()
    for position in range(0, 8 * len(whole), 13):  # 13 bits on: every byte and every bit in turn
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        checkpoint.folder.mkdir(exist_ok=True)
        checkpoint.path.write_bytes(damaged)
        assert checkpoint.load() is None


def test_a_full_disk_leaves_the_state_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save({"update": 1})
    with limited_files(20_000), pytest.raises(OSError, match=r"File too large.*state\.pt"):
        checkpoint.save({"update": 2, "weights": torch.ones(100_000)})
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


@pytest.mark.parametrize("name", ["npr", "univfd"])
def test_the_fingerprint_is_of_the_code_that_the_stage_depends_on(name: str) -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["deps"]
    code = [ROOT / dep.replace("${model.name}", name) for dep in deps if dep.startswith("src/")]
    files = {file for path in code for file in (path.glob("*.py") if path.is_dir() else [path])}
    assert files == set(code_files(name))


def test_the_environment_moves_the_scratch_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch_folder() == Path(".scratch/train")
    monkeypatch.setenv("REAL_OR_GENERATED_SCRATCH", "elsewhere")
    assert scratch_folder() == Path("elsewhere/train")
