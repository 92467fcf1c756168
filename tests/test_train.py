import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file

from src import train
from src.core import processor
from src.core.cli import InputError
from src.core.tables import read_table
from src.dataset.columns import SPLIT_TABLE
from src.images.crops import GridCrops
from src.images.loader import ImageSet
from src.inference.scorer import Scorer
from src.models.shared.detector import load_detector
from src.training.setup import check_classes, class_names, class_targets
from src.training.validation import validate
from tests.helpers import ROOT
from tests.helpers.make_training import AUGMENT, make_split, outputs, settings, write_inputs

# Trains as the stage does, but a checkpoint follows every update, and what the argument names
# is the death of the process: in the middle of writing its nth checkpoint, or after it.
DIE = """
import os, signal, sys
import torch
import src.training.checkpoints, src.training.loop
from src.train import main

moment, number, *paths = sys.argv[1:]
whole, saves = torch.save, 0

def save(state, file):
    global saves
    saves += 1
    whole(state, file)
    if saves == int(number):
        if moment == "during":
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    if saves > int(number):
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = save
src.training.loop.CHECKPOINT_SECONDS = -1.0
main(paths)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return make_split(tmp_path_factory.mktemp("train") / "raw")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stage's paths, in a folder of its own that is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "0")
    return write_inputs(tmp_path, settings(AUGMENT, epochs=2))


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in outputs(folder)}


def test_the_stage_writes_everything_twice_the_same(
    stage: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train.main(stage)
    assert "keeping decoded images" in caplog.text
    first = read_all(Path("out"))
    caplog.clear()
    shutil.rmtree(".scratch")
    monkeypatch.setenv("REAL_OR_GENERATED_PIXELS", "0")
    train.main(stage)
    assert "keeping" not in caplog.text
    assert read_all(Path("out")) == first

    load_detector(Path("out/detector.safetensors"), Path("out/detector.json"))
    curve = pd.read_csv("out/training.csv")
    assert list(curve["epoch"]) == [1, 2]
    metrics = json.loads(first["train.json"])["train"]
    best = curve.loc[curve["epoch"] == metrics["kept_epoch"]].iloc[0]
    assert metrics["val_mcc"] == best["val_mcc"] == curve["val_mcc"].max()
    assert metrics["parameters"] == sum(
        value.numel() for value in load_file("out/detector.safetensors").values()
    )
    assert first["batch.png"].startswith(b"\x89PNG")
    assert b"Software" not in first["batch.png"]


def test_a_disk_that_is_full_in_the_end_costs_no_training(
    stage: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(_: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as full:
        full.setattr("src.models.shared.pretrained.save_file", full_disk)
        with pytest.raises(OSError, match=r"No space left on device: .*detector\.safetensors"):
            train.main(stage)
    assert [path.name for path in sorted(Path("out").iterdir())] == [
        "batch.png",
        "train.json",
        "training.csv",
    ]
    shutil.rmtree("out")  # as DVC does before it runs a stage
    repeated(stage, monkeypatch, caplog)
    expected = read_all(Path("out"))
    for path in outputs(Path("out")):  # DVC was killed, or its cache full
        path.unlink()
    repeated(stage, monkeypatch, caplog)
    assert read_all(Path("out")) == expected


def repeated(
    stage: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Run the stage again; fail if it trains."""
    with monkeypatch.context() as once, caplog.at_level("INFO"):
        once.setattr("src.training.loop.GradientTrainer._update", None)
        train.main(stage)
    assert "resumed at update 6; to train anew delete .scratch/train/" in caplog.text


def test_the_state_of_a_finished_run_goes_when_the_next_begins(stage: list[str]) -> None:
    train.main(stage)
    (first,) = Path(".scratch/train").glob("*/")
    change_params("train", seed=1)
    train.main(stage)
    (second,) = Path(".scratch/train").glob("*/")
    assert first != second


def test_damaged_weights_to_start_from_are_named(stage: list[str]) -> None:
    Path("start.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"^start.safetensors is damaged .*'weights' again"):
        train.main(stage)


def test_a_precision_that_the_machine_lacks_is_named(
    stage: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_gpu(**_: Any) -> None:
        raise ValueError("bf16 mixed precision requires a supported device.")

    monkeypatch.setattr("src.training.run.Accelerator", old_gpu)
    with pytest.raises(InputError, match=r"train.precision = 'fp32': bf16 mixed precision req"):
        train.main(stage)


def test_the_gate_must_have_been_passed(stage: list[str]) -> None:
    Path("gate").unlink()
    with pytest.raises(InputError, match="'shortcuts' has not passed"):
        train.main(stage)


def run_until(moment: str, number: int, stage: list[str], workers: int) -> int:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "REAL_OR_GENERATED_WORKERS": str(workers),
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    command = [sys.executable, "-c", DIE, moment, str(number), *stage]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.mark.slow
def test_a_stage_killed_again_and_again_ends_like_an_uninterrupted_one(stage: list[str]) -> None:
    train.main(stage)
    expected = read_all(Path("out"))
    shutil.rmtree(".scratch")
    for path in outputs(Path("out")):
        path.unlink()
    assert run_until("during", 2, stage, workers=0) == -9
    assert run_until("after", 2, stage, workers=2) == -9
    assert run_until("after", 99, stage, workers=2) == 0
    assert read_all(Path("out")) == expected


@pytest.mark.slow
def test_half_precision_without_a_gpu_is_refused(stage: list[str]) -> None:
    change_params("train", precision="fp16")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "src.train", *stage]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: train.precision = 'fp16' needs a GPU" in done.stderr


@pytest.mark.slow
def test_with_running_statistics_what_validated_is_what_is_saved(
    stage: list[str], tmp_path: Path
) -> None:
    change_params("model", name="npr", drop_path=0.0)
    change_params("train", ema_decay=0.5, layer_decay=1.0)
    environment = {"PYTHONPATH": str(ROOT), "REAL_OR_GENERATED_PROCESSES": "2"}
    subprocess.run(
        [sys.executable, "-m", "src.train", *stage],
        env=os.environ | environment,
        check=True,
        capture_output=True,
    )
    detector = load_detector(Path("out/detector.safetensors"), Path("out/detector.json"))
    table = read_table(Path("splits.csv"), SPLIT_TABLE)
    val = table[table["split"] == "val"]
    crops = GridCrops(detector.config.view, 2)
    images = ImageSet(val, tmp_path / "raw", crops, detector.blueprint.preprocess)
    logits = Scorer(images, 8, Accelerator(cpu=True), 0)(detector)
    best = json.loads(Path("out/train.json").read_text())["train"]
    figures = validate(logits, val["label"].to_numpy())
    assert figures["val_loss"] == pytest.approx(best["val_loss"], rel=1e-5)


@pytest.mark.slow
def test_a_wrong_parameter_is_said_once_however_many_processes(stage: list[str]) -> None:
    change_params("train", epochs=0)
    environment = {"PYTHONPATH": str(ROOT), "REAL_OR_GENERATED_PROCESSES": "2"}
    command = [sys.executable, "-m", "src.train", *stage]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: params.yaml: train.epochs: 0 is less")
    assert "torch" not in done.stderr


def change_params(section: str, **values: Any) -> None:
    sections = json.loads(Path("params.yaml").read_text())
    sections[section] |= values
    Path("params.yaml").write_text(json.dumps(sections))


def run_stage(stage: list[str], **environment: str) -> dict[str, Any]:
    """Run the stage in a process of its own; return its metrics."""
    kept = {"PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1", **environment}
    command = [sys.executable, "-m", "src.train", *stage]
    subprocess.run(command, env=os.environ | kept, check=True, capture_output=True)
    metrics: dict[str, Any] = json.loads(Path("out/train.json").read_text())["train"]
    return metrics


@pytest.mark.slow
def test_shares_of_a_batch_are_processes_and_give_their_bits(stage: list[str]) -> None:
    change_params("train", shares=2)
    assert run_stage(stage)["exact"] == processor.is_exact()
    shares = read_all(Path("out"))
    shutil.rmtree("out")
    run_stage(stage, REAL_OR_GENERATED_PROCESSES="2")
    assert read_all(Path("out")) == shares


@pytest.mark.slow
def test_who_turns_exactness_off_finds_it_in_the_metrics(stage: list[str]) -> None:
    change_params("train", exact=False)
    assert run_stage(stage)["exact"] is False


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [{processor.EXACT_VARIABLE: "0"}, {"MKL_CBWR": "AUTO"}], ids=["all", "one"]
)
def test_an_environment_without_the_switches_is_warned_of(
    stage: list[str], variables: dict[str, str]
) -> None:
    kept = {"PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1", **variables}
    command = [sys.executable, "-m", "src.train", *stage]
    done = subprocess.run(
        command, env=os.environ | kept, check=True, capture_output=True, text=True
    )
    (warning,) = (line for line in done.stderr.splitlines() if "bits will differ" in line)
    (variable,) = variables
    assert f"{variable}={variables[variable]} in the environment" in warning
    assert json.loads(Path("out/train.json").read_text())["train"]["exact"] is False


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_arithmetic(
    stage: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train.main(stage)
    (first,) = Path(".scratch/train").glob("*/finished")
    monkeypatch.setenv(processor.EXACT_VARIABLE, "0")
    train.main(stage)
    (second,) = Path(".scratch/train").glob("*/finished")
    assert second != first


def train_on_nodes(folders: list[Path], stage: list[str], environment: dict[str, str]) -> None:
    """Train with a process in each of `folders`, as on as many machines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    together = (
        *("--nnodes", str(len(folders)), "--nproc-per-node", "1", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", endpoint, "--rdzv-id", "test"),
    )
    torchrun = (sys.executable, "-m", "torch.distributed.run")
    nodes = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(rank), *together, "-m", "src.train", *stage],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for rank, folder in enumerate(folders)
    ]
    assert [node.wait(timeout=300) for node in nodes] == [0] * len(folders)


@pytest.mark.slow
def test_processes_train_like_one_and_nodes_like_processes(
    stage: list[str], tmp_path: Path
) -> None:
    change_params("model", drop_path=0.0)  # every process draws its own
    first = Path.cwd()
    second = tmp_path / "node-1"  # another machine: a copy of everything, and nothing shared
    shutil.copytree(first, second)
    train.main(stage)
    alone = pd.read_csv("out/training.csv")
    shutil.rmtree(".scratch")

    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1"}
    environment.pop("OMP_NUM_THREADS", None)  # torchrun sets it for two processes, not for one
    subprocess.run(
        [sys.executable, "-m", "src.train", *stage],
        env=environment | {"REAL_OR_GENERATED_PROCESSES": "2"},
        check=True,
        capture_output=True,
    )
    pd.testing.assert_frame_equal(pd.read_csv("out/training.csv"), alone, rtol=1e-3)
    expected = read_all(first / "out")
    shutil.rmtree(first / "out")
    shutil.rmtree(first / ".scratch")

    train_on_nodes([first, second], stage, environment)
    # The node that torchrun gave rank 0.
    (weights,) = tmp_path.glob("**/out/detector.safetensors")
    assert read_all(weights.parent) == expected


@pytest.mark.parametrize(("split", "label"), [("train", 0), ("train", 1), ("val", 0), ("val", 1)])
def test_a_missing_class_is_named(table: pd.DataFrame, split: str, label: int) -> None:
    poor = table[(table["split"] != split) | (table["label"] != label)]
    with pytest.raises(InputError, match=f"'{split}' .*no {['real', 'fake'][label]} image"):
        check_classes(poor)
    check_classes(table)


def test_every_generator_can_be_a_class(table: pd.DataFrame) -> None:
    assert class_names(table, "binary") == ("real", "fake")
    classes = class_names(table, "multiclass")
    assert classes == ("real", "glide", "stylegan2")
    targets = class_targets(table, classes).numpy()
    assert dict(zip(table["method"], targets, strict=True)) == {
        "ffhq": 0,
        "landscape": 0,
        "glide": 1,
        "stylegan2": 2,
    }
    binary = class_targets(table, ("real", "fake")).numpy()
    assert (binary == table["label"]).all()
