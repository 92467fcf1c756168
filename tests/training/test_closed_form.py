from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from src.core.cli import InputError
from src.inference.scorer import prepare_torch
from src.training.checkpoints import Checkpoint
from src.training.closed_form import ClosedFormTrainer
from src.training.config import Epoch
from src.training.run import build_trainer
from src.training.setup import prepare
from tests.helpers.make_training import MODEL, make_split, settings


class Killed(Exception):  # noqa: N818 - not an error
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("solving") / "raw"


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    return make_split(root, size=32)


def build(table: pd.DataFrame, root: Path, **changes: Any) -> ClosedFormTrainer:
    prepare_torch(1)
    chosen = settings(epochs=2, **changes)
    model = type(MODEL)(**(vars(MODEL) | {"name": "univfd", "backbone": "resnet10t"}))
    detector, data = prepare(table, root, chosen._replace(model=model))
    trainer = build_trainer(detector, data, chosen.train, Accelerator(cpu=True), 0)
    assert isinstance(trainer, ClosedFormTrainer)
    return trainer


def test_a_run_cut_off_between_passes_ends_like_a_whole_one(
    table: pd.DataFrame, root: Path, tmp_path: Path
) -> None:
    whole = build(table, root)
    reported: list[list[Epoch]] = []
    whole.run(Checkpoint(tmp_path / "whole"), lambda history: reported.append(list(history)))
    assert len(reported[-1]) == len(whole.history) == 4
    assert whole.images_seen == 2 * 24
    assert not torch.equal(whole.passes[0], whole.passes[1])  # other views of the images

    class Dying(Checkpoint):
        def save(self, state: Any) -> None:
            super().save(state)
            raise Killed

    cut = Dying(tmp_path / "cut")
    with pytest.raises(Killed):
        build(table, root).run(cut, lambda _: None)
    resumed = build(table, root)
    state = Checkpoint(cut.folder).load()
    assert state is not None
    resumed.load_state_dict(state)
    assert resumed.update == 1
    resumed.run(Checkpoint(cut.folder), lambda _: None)
    assert resumed.history == whole.history
    for name, value in whole.weights.items():
        assert torch.equal(resumed.weights[name], value), name


def test_what_only_a_training_loop_does_is_refused(table: pd.DataFrame, root: Path) -> None:
    with pytest.raises(InputError, match="sampling = 'class_balanced': univfd is fitted to all"):
        build(table, root, sampling="class_balanced")
