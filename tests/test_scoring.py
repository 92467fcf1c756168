import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate import Accelerator

from src.images import GridCrops, ImageSet, View
from src.models import build_detector
from src.schema import SPLIT_TABLE, write_table
from src.scoring import Scorer
from tests.make_training import MODEL, make_split

VIEW = View(size=32, fit="native")

# What `torchrun` starts: every process must print the same, whatever their number.
SCORE = """
import hashlib, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from src.images import GridCrops, ImageSet
from src.models import build_detector
from src.schema import SPLIT_TABLE, read_table
from src.scoring import Scorer, fix_arithmetic
from tests.make_training import MODEL

root = Path(sys.argv[1])
fix_arithmetic(1)
accelerator = Accelerator(cpu=True)
detector = build_detector(MODEL, ("real", "fake"), 0)
images = ImageSet(
    read_table(root / "splits.csv", SPLIT_TABLE), root / "raw", GridCrops(detector.identity.view, 2)
)
logits = Scorer(images, 5, accelerator, 0)(detector)
digest = hashlib.sha256(logits.numpy()).hexdigest()
# One write: the lines of two processes must not mix.
print(f"{accelerator.num_processes} {logits.shape} {digest}\\n", end="")
"""


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
    script = folder / "score.py"
    script.write_text(SCORE)
    lines = {}
    for processes in (1, 2):
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), str(script), str(folder)),
        ]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines[processes] = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    ((one, expected),) = lines[1]
    assert one == "1"
    assert lines[2] == [["2", expected], ["2", expected]]
