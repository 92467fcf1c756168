import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from src.core.cli import InputError
from src.inference.scorer import prepare_torch
from src.models.shared.detector import Detector
from src.models.shared.pretrained import StateDict
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch
from src.training.loop import GradientTrainer
from src.training.setup import prepare
from tests.helpers.make_training import PLAIN, TRAIN, make_split, settings


class Killed(Exception):  # noqa: N818 - not an error
    """Stands for kill -9 in a process that must live on to look at what is left."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop") / "raw"


@pytest.fixture(scope="module")
def table(root: Path) -> Any:
    return make_split(root)


def build(
    table: Any, root: Path, workers: int = 0, drop_path: float = 0.2, **changes: Any
) -> GradientTrainer:
    prepare_torch(1)
    chosen = settings(**changes)
    chosen = chosen._replace(model=replace(chosen.model, drop_path=drop_path))
    detector, data = prepare(table, root, chosen)
    return GradientTrainer(detector, data, chosen.train, Accelerator(cpu=True), workers)


def ignore(_epochs: Sequence[Epoch]) -> None:
    pass


def same(first: StateDict, second: StateDict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first | second)


def test_eight_images_are_learnt_by_heart(tmp_path: Path) -> None:
    table = make_split(tmp_path / "raw", [("train", 2), ("val", 2)], size=32)
    prepare_torch(1)
    chosen = settings(PLAIN, epochs=40, patience=40, learning_rate=3e-3, label_smoothing=0.0)
    detector, data = prepare(table, tmp_path / "raw", chosen)
    training = GradientTrainer(detector, data, chosen.train, Accelerator(cpu=True), 0)
    training.run(Checkpoint(tmp_path / "run"), ignore)
    assert training.history[0].train_loss > 0.6
    assert training.history[-1].train_loss < 0.05


def test_same_seed_same_weights_whatever_the_workers(
    table: Any, root: Path, tmp_path: Path
) -> None:
    runs = [build(table, root, workers) for workers in (0, 0, 2)]
    for number, training in enumerate(runs):
        training.run(Checkpoint(tmp_path / str(number)), ignore)
    assert same(runs[0].weights, runs[1].weights)
    assert same(runs[0].weights, runs[2].weights)
    assert runs[0].history == runs[1].history == runs[2].history
    other = build(table, root, seed=1)
    other.run(Checkpoint(tmp_path / "other"), ignore)
    assert not same(runs[0].weights, other.weights)


def test_accumulation_is_arithmetic_only(table: Any, root: Path) -> None:
    # Without drop path: every micro-batch drops others.
    runs = [build(table, root, drop_path=0.0, accumulation=parts) for parts in (1, 4)]
    for training in runs:
        batches = map(training.data.train.batch, training.sampler.requests(0))
        for _ in range(3):
            training._update(list(islice(batches, training.params.accumulation)))
    one, four = (dict(training.detector.named_parameters()) for training in runs)
    for name, weight in one.items():
        torch.testing.assert_close(weight, four[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("saves", [1, 2, 4, 7])
def test_a_run_cut_off_anywhere_ends_with_the_weights_of_a_whole_one(
    table: Any, root: Path, tmp_path: Path, saves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.training.loop.CHECKPOINT_SECONDS", -1.0)  # save after every update
    whole = build(table, root)
    whole.run(Checkpoint(tmp_path / "whole"), ignore)

    class Dying(Checkpoint):
        left = saves

        def save(self, state: Any) -> None:
            super().save(state)
            self.left -= 1
            if not self.left:
                raise Killed

    checkpoint = Dying(tmp_path / "cut")
    with pytest.raises(Killed):
        build(table, root).run(checkpoint, ignore)
    resumed = build(table, root)
    state = Checkpoint(checkpoint.folder).load()
    assert state is not None
    resumed.load_state_dict(state)
    assert resumed.update == saves
    reported: list[int] = []
    resumed.run(Checkpoint(checkpoint.folder), lambda epochs: reported.append(len(epochs)))
    assert same(resumed.weights, whole.weights)
    assert resumed.history == whole.history
    assert reported[-1] == len(whole.history)  # replayed, none twice


def test_training_stops_when_patience_ends(
    table: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = iter(np.linspace(0.9, 0.1, 20))
    monkeypatch.setattr(
        "src.training.loop.validate",
        lambda *_: {"val_loss": 1.0, "val_mcc": float(next(worse)), "val_auroc": 0.5},
    )
    training = build(table, root, epochs=20, patience=3)
    training.run(Checkpoint(tmp_path / "run"), ignore)
    assert [epoch.epoch for epoch in training.history] == [1, 2, 3, 4]
    assert training.kept.epoch == 1


@pytest.mark.parametrize(("select", "kept"), [("best", 2), ("last", 4)])
def test_the_weights_are_those_of_the_epoch_that_is_selected(
    table: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Any, kept: int
) -> None:
    scores = iter([0.5, 0.9, 0.7, 0.6])
    monkeypatch.setattr(
        "src.training.loop.validate",
        lambda *_: {"val_loss": 1.0, "val_mcc": next(scores), "val_auroc": 0.5},
    )
    training = build(table, root, epochs=4, patience=4, select=select, ema_decay=0.0)
    after: list[Any] = []  # the weights after each epoch

    def remember(_: object) -> None:
        state = training.detector.network.state_dict()
        after.append({name: value.clone() for name, value in state.items()})

    training.run(Checkpoint(tmp_path / "run"), remember)
    assert training.kept.epoch == kept
    assert same(training.weights, after[kept - 1])
    assert not same(training.weights, after[2])


def test_equal_mcc_is_decided_by_loss() -> None:
    epoch = Epoch(1, 1e-3, 0.5, val_loss=0.5, val_mcc=0.8, val_auroc=0.9)
    assert replace(epoch, val_loss=0.4).beats(epoch)
    assert not replace(epoch, val_loss=0.6).beats(epoch)
    assert not epoch.beats(epoch)
    assert replace(epoch, val_mcc=0.9, val_loss=9.0).beats(epoch)


def test_a_loss_that_is_no_number_stops_the_run_with_the_images(
    table: Any, root: Path, tmp_path: Path
) -> None:
    training = build(table, root)
    torch.nn.init.constant_(training.detector.network.get_parameter("head.bias"), float("nan"))
    with pytest.raises(InputError, match=r"loss is nan at update 0 .*(ffhq|landscape)/0\d\d.jpg"):
        training.run(Checkpoint(tmp_path / "run"), ignore)


def test_a_gradient_that_is_no_number_stops_the_run_at_its_own_images(
    table: Any, root: Path, tmp_path: Path
) -> None:
    training = build(table, root, clip_norm=0.0)
    bias = training.detector.network.get_parameter("head.bias")
    bias.register_hook(lambda gradient: gradient / (training.update < 1))
    with pytest.raises(InputError, match=r"gradient's norm is (inf|nan) at update 1 .*/0\d\d.jpg"):
        training.run(Checkpoint(tmp_path / "run"), ignore)


def test_validation_fits_where_training_does() -> None:
    assert TRAIN.val_batch_size == TRAIN.batch_size
    assert replace(TRAIN, batch_size=1024, val_crops_per_side=4).val_batch_size == 16


def test_a_log_says_where_the_run_is_and_what_is_wrong_with_its_rate(
    table: Any,
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("src.training.progress.LOG_SECONDS", 0.0)
    build(table, root, epochs=2, warmup_epochs=2.0).run(Checkpoint(tmp_path / "run"), ignore)
    assert "warmup_epochs = 2 of train.epochs = 2: the rate does not reach" in caplog.text
    assert re.search(r"epoch 2/2, step 2/3: loss \d\.\d+, \d+ images/s, 00:00 left", caplog.text)


def test_a_validation_that_is_no_number_stops_the_run(
    table: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = build(table, root)
    monkeypatch.setattr(training, "score", lambda _model: torch.full((12, 2), float("nan")))
    with pytest.raises(InputError, match=r"validation images at epoch 1 .*lower train.learning_r"):
        training.run(Checkpoint(tmp_path / "run"), ignore)


def test_the_averaged_weights_are_the_ones_that_are_kept(
    table: Any, root: Path, tmp_path: Path
) -> None:
    training = build(table, root, epochs=1)
    training.run(Checkpoint(tmp_path / "run"), ignore)
    assert training.average is not None
    average = training.average.module
    assert isinstance(average, Detector)
    assert same(training.weights, average.network.state_dict())
    assert not same(training.weights, training.detector.network.state_dict())


def test_gradient_checkpointing_and_balance_change_no_rule(
    table: Any, root: Path, tmp_path: Path
) -> None:
    plain, saving = (build(table, root, gradient_checkpointing=saves) for saves in (False, True))
    for number, training in enumerate((plain, saving)):
        training.run(Checkpoint(tmp_path / str(number)), ignore)
    for name, value in plain.weights.items():
        torch.testing.assert_close(saving.weights[name], value, atol=1e-5, rtol=1e-4)
    unbalanced = table[(table["method"] != "glide") | (table["split"] != "train")]
    balanced = build(unbalanced, root, sampling="class_balanced", batch_size=4)
    assert balanced.sampler.updates_per_epoch == 12 // 4
    balanced.run(Checkpoint(tmp_path / "balanced"), ignore)
    assert balanced.images_seen == 3 * 12


def test_a_network_without_checkpointing_says_so(table: Any, root: Path) -> None:
    chosen = settings(gradient_checkpointing=True, layer_decay=1.0)
    chosen = chosen._replace(model=replace(chosen.model, name="dct_cnn"))
    detector, data = prepare(table, root, chosen)
    with pytest.raises(InputError, match="gradient_checkpointing: dct_cnn cannot"):
        GradientTrainer(detector, data, chosen.train, Accelerator(cpu=True), 0)


def scaled(table: Any, root: Path) -> GradientTrainer:
    """Return a run whose losses are scaled as for fp16, which itself needs a GPU."""
    chosen = settings()
    detector, data = prepare(table, root, chosen)
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    return GradientTrainer(detector, data, chosen.train, accelerator, 0)


def test_the_scale_of_fp16_survives_an_interruption(table: Any, root: Path, tmp_path: Path) -> None:
    prepare_torch(1)
    whole, cut = scaled(table, root), scaled(table, root)
    whole.run(Checkpoint(tmp_path / "whole"), ignore)
    batches = map(cut.data.train.batch, cut.sampler.requests(0))
    for _ in range(2):
        cut._update(list(islice(batches, 1)))
    Checkpoint(tmp_path / "cut").save(cut.state_dict())
    resumed = scaled(table, root)
    state = Checkpoint(tmp_path / "cut").load()
    assert state is not None
    assert state["scaler"]["scale"] > 65536  # it has grown
    resumed.load_state_dict(state)
    resumed.run(Checkpoint(tmp_path / "cut"), ignore)
    assert same(resumed.weights, whole.weights)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same(table: Any, root: Path, tmp_path: Path) -> None:
    losses = []
    for compiled in (False, True):
        training = build(table, root, compile=compiled, drop_path=0.0, epochs=1)
        training.run(Checkpoint(tmp_path / str(compiled)), ignore)
        losses.append(training.history[0].train_loss)
        assert "_orig_mod" not in "".join(training.weights)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_memory_stays_flat_over_epochs(table: Any, root: Path, tmp_path: Path) -> None:
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        pytest.skip("needs Linux's /proc")
    pages: list[int] = []
    training = build(table, root, epochs=12, patience=12)
    training.run(
        Checkpoint(tmp_path), lambda _: pages.append(int(statistics.read_text().split()[1]))
    )
    assert max(pages[4:]) - pages[3] < 2000  # pages of 4 KiB, resident
