import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from src.images.crops import GridCrops, View
from src.images.loader import ImageSet
from src.inference.embedder import Embedder, _parallel_parts, _workers, embed, last_layer
from src.inference.scorer import Scorer
from src.models.shared.blueprint import names
from src.models.shared.detector import Detector, build_detector
from src.models.shared.log_odds import fake_logit
from tests.helpers.make_training import MODEL, make_split

CLASSES = ("real", "glide", "stylegan2")


def test_logits_and_features_come_from_one_pass(tmp_path: Path) -> None:
    table = make_split(tmp_path / "raw", [("test", 3)])
    detector = build_detector(MODEL, CLASSES, 0).eval()
    nn.init.normal_(detector.network.get_parameter("head.weight"))
    images = ImageSet(table, tmp_path / "raw", GridCrops(detector.config.view, 2))
    accelerator = Accelerator(cpu=True)
    embedding = embed(detector, images, 5, accelerator, "test")

    logits = Scorer(images, 5, accelerator, 0)(detector)
    np.testing.assert_allclose(embedding.logits, fake_logit(logits.numpy()), atol=1e-5)
    # The last layer is linear, so the mean of the features has the mean of the logits.
    head = detector.network.get_submodule("head")
    with torch.no_grad():
        torch.testing.assert_close(head(torch.from_numpy(embedding.features)), logits)


def test_the_last_layer_is_found_in_any_network() -> None:
    network = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2), nn.Identity())
    assert last_layer(network, 2) is network[2]
    bank = nn.ModuleDict({"body": nn.Linear(4, 5), "head": nn.Identity()})
    assert last_layer(bank, 2) is bank["head"]


@pytest.mark.parametrize("name", [name for name in names() if name != "univfd_knn"])  # a bank
def test_every_detector_has_a_last_layer(name: str) -> None:
    config = build_detector(MODEL, CLASSES, 0).config
    config = replace(config, name=name, view=View(size=224, resize=True))
    with torch.device("meta"):
        network = Detector(config).network
    layer = last_layer(network, len(CLASSES))
    assert isinstance(layer, nn.Linear)
    assert layer.out_features == len(CLASSES)


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_features_are_of_the_images_that_were_asked_about(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.inference.embedder._PIXELS_AT_ONCE", at_once * 32 * 32)
    detector = build_detector(MODEL, CLASSES, 0).eval()
    embedder = Embedder(detector)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    together = embedder(images)
    alone = torch.cat([embedder(image[None]) for image in images])
    torch.testing.assert_close(together, alone)
    assert together.shape == (4, 3 + 32)
    assert not together.requires_grad


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.inference.embedder._PIXELS_AT_ONCE", 2 * 32 * 32)
    detector = build_detector(MODEL, CLASSES, 0).eval()
    images = torch.randint(0, 256, (31, 32, 32, 3), dtype=torch.uint8)
    found = []
    for threads in (1, 5):
        monkeypatch.setattr(
            "src.inference.embedder._parallel_parts", lambda threads=threads: threads
        )
        found.append(Embedder(detector)(images))
    torch.testing.assert_close(*found, rtol=0, atol=0)


# In a process of its own: how much memory is kept depends on what has been freed before.
FAULTS = """
import resource
from dataclasses import replace
import torch
from src.inference.embedder import Embedder
from src.models.shared.detector import build_detector
from src.inference.scorer import prepare_torch
from tests.helpers.make_training import MODEL

prepare_torch(threads=1)
model = replace(MODEL, name="beit3_tiny", image_size=64)
embedder = Embedder(build_detector(model, ("real", "fake"), 0).eval())
images = torch.zeros(128, 64, 64, 3, dtype=torch.uint8)
faults = []
for _ in range(6):
    embedder(images)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((faults[-1] - faults[2]) / 3 / len(images))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's memory")
def test_the_memory_of_one_batch_is_there_for_the_next() -> None:
    command = [sys.executable, "-c", FAULTS]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(run.stdout) < 10  # pages that the system had to map, of each crop


def test_processes_and_the_threads_of_a_part_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    assert _parallel_parts() == 2
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    assert _parallel_parts() == 1


def test_few_processes_load_small_images_beside_a_network_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REAL_OR_GENERATED_WORKERS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    table = make_split(tmp_path / "raw")
    crops = GridCrops(View(16, resize=False), 1)
    small = ImageSet(table, tmp_path / "raw", crops)
    large = ImageSet(table.assign(length=3_000_000), tmp_path / "raw", crops)
    processor, gpu = torch.device("cpu"), torch.device("cuda")
    assert _workers(small, processor) == 2
    assert _workers(large, processor) == _workers(small, gpu) == 8
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "5")
    assert _workers(small, processor) == 5
