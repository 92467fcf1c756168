import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from src.core.tables import read_table, write_table
from src.dataset.columns import SPLIT_TABLE
from src.images.crops import GridCrops, View
from src.images.loader import ImageSet
from src.inference.scorer import Scorer, prepare_torch
from src.models.shared.detector import build_detector
from tests.helpers import ROOT
from tests.helpers.make_training import MODEL, make_split

VIEW = View(size=32, resize=False)

# What `torchrun` starts: every process has the logits of all images, whatever their number.
SCORE = """
import sys
from pathlib import Path
import torch
from accelerate import Accelerator
from tests.inference.test_scorer import score_folder

folder, accelerator = Path(sys.argv[1]), Accelerator(cpu=True)
torch.save(score_folder(folder, accelerator), folder / f"{accelerator.process_index}.pt")
"""


def score_folder(folder: Path, accelerator: Accelerator) -> torch.Tensor:
    """Return logits of all images in batches of 5, and below them in one batch for all."""
    prepare_torch(1)
    detector = build_detector(MODEL, ("real", "fake"), 0)
    table = read_table(folder / "splits.csv", SPLIT_TABLE)
    images = ImageSet(table, folder / "raw", GridCrops(detector.config.view, 2))
    return torch.cat([Scorer(images, size, accelerator, 0)(detector) for size in (5, 50)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    table = make_split(folder / "raw", [("val", 7)])
    write_table(table, folder / "splits.csv", SPLIT_TABLE)
    return folder


def image_set(folder: Path, per_side: int) -> ImageSet:
    table = pd.read_csv(folder / "splits.csv")
    return ImageSet(table, folder / "raw", GridCrops(VIEW, per_side))


def test_an_image_has_the_mean_of_its_crops_logits(folder: Path) -> None:
    detector = build_detector(MODEL, ("real", "fake"), 0).eval()
    images = image_set(folder, 2)
    logits = Scorer(images, 5, Accelerator(cpu=True), 0)(detector)
    assert logits.shape == (28, 2)
    with torch.no_grad():
        expected = detector(images[9].images).mean(0)
    torch.testing.assert_close(logits[9], expected)


def test_scoring_twice_gives_the_same_with_and_without_workers(folder: Path) -> None:
    detector = build_detector(MODEL, ("real", "fake"), 0)
    results = []
    for workers in (0, 2):
        score = Scorer(image_set(folder, 1), 5, Accelerator(cpu=True), workers)
        results += [score(detector), score(detector)]
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.slow
def test_two_processes_score_like_one(folder: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "--no-python", sys.executable, "-c", SCORE, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    expected = score_folder(folder, Accelerator(cpu=True))
    for process in range(2):
        assert torch.equal(torch.load(folder / f"{process}.pt"), expected)
