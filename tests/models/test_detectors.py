"""Every detector of src/models, by the same tests; what is special to one follows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch.nn.functional import normalize

from src.core.cli import InputError
from src.inference.scorer import prepare_torch
from src.models.dct_cnn import Histograms
from src.models.ela_cnn import BLUEPRINT as ELA
from src.models.npr import Relations
from src.models.shared.blueprint import names
from src.models.shared.detector import Detector, build_detector, load_detector, save_config
from src.models.shared.frozen_probe import LinearHead, NeighbourHead
from src.models.xray import BoundaryNet, blend
from src.predict import PredictParams, predict
from src.training.checkpoints import Checkpoint
from src.training.run import build_trainer
from src.training.setup import Settings, prepare
from src.training.trainer import Trainer
from tests.helpers.make_data import make_image
from tests.helpers.make_detectors import CLASSES, random_images
from tests.helpers.make_training import MODEL, PLAIN, make_split, settings

SMALL = [name for name in names() if name not in ("beit3_base", "beit3_large")]
# Their strides leave nothing of a picture of 32 pixels, and larger ones take minutes to learn.
STRIDED = ["efficientnet_b4", "mobilenet_v2", "resnet50"]
# Nearest neighbours in random features know nothing; a test of their own has others.
QUICK = [name for name in SMALL if name not in (*STRIDED, "univfd_knn")]
# What a detector needs to learn the toy, where it is not what `toy` gives to all.
TOYS: dict[str, dict[str, Any]] = {
    "beit3_nano": {"epochs": 20, "learning_rate": 2e-3},
    "ela_cnn": {"epochs": 12, "learning_rate": 2e-3},
    "univfd": {"epochs": 2},
    "univfd_knn": {"epochs": 2},
}


def model(name: str) -> Any:
    backbone = "resnet10t" if name.startswith("univfd") else ""
    return replace(MODEL, name=name, backbone=backbone, drop_path=0.0)


def toy(name: str) -> Settings:
    usual = {
        "epochs": 6,
        "patience": 99,
        "learning_rate": 1e-3,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "warmup_epochs": 0.0,
        "layer_decay": 1.0,
        "val_crops_per_side": 1,
    }
    chosen = settings(PLAIN, **(usual | TOYS.get(name, {})))
    return chosen._replace(model=model(name))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors") / "raw"


@pytest.fixture(scope="module")
def table(root: Path) -> pd.DataFrame:
    return make_split(root, [("train", 16), ("val", 6)], size=32)


def fit(name: str, table: pd.DataFrame, root: Path, folder: Path) -> Trainer:
    prepare_torch(1)
    chosen = toy(name)
    detector, data = prepare(table, root, chosen)
    training = build_trainer(detector, data, chosen.train, Accelerator(cpu=True), 0)
    training.run(Checkpoint(folder), lambda _history: None)
    return training


@pytest.mark.parametrize("name", QUICK)
def test_a_toy_is_learnt_saved_and_predicted(
    name: str, table: pd.DataFrame, root: Path, tmp_path: Path
) -> None:
    training = fit(name, table, root, tmp_path / "run")
    assert training.kept.val_auroc > 0.9, f"{name} needs a line in TOYS: see docs/detectors.md"
    save_file(training.weights, tmp_path / "d.safetensors")
    save_config(training.detector.config, tmp_path / "d.json")
    loaded = load_detector(tmp_path / "d.safetensors", tmp_path / "d.json")
    params = PredictParams(
        crops_per_side=1, batch_size=8, threads=1, knn_images=8, knn_neighbours=1, seed=0
    )
    judged = predict(table, root, loaded, params, Accelerator(cpu=True))
    assert np.isfinite(judged.table["distance"]).all()  # whatever the network, it has features
    predictions = judged.table[judged.table["split"] == "val"]
    fakes, reals = (predictions.loc[predictions["label"] == label, "logit"] for label in (1, 0))
    found = (fakes.to_numpy()[:, np.newaxis] > reals.to_numpy()).mean()
    assert found == pytest.approx(training.kept.val_auroc, abs=0.02)


@pytest.mark.parametrize("name", STRIDED)
def test_a_batch_is_learnt_by_heart(name: str) -> None:
    prepare_torch(1)
    pictures = [make_image(i, 64, fake=i % 2 == 1) for i in range(12)]
    images, targets = torch.from_numpy(np.stack(pictures)), torch.arange(12) % 2
    detector = build_detector(replace(model(name), image_size=64), CLASSES, 0)
    groups = detector.blueprint.parameter_groups(detector.network, 0.05, 1.0)
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    losses = []
    for _ in range(9):
        loss: torch.Tensor = detector(images, targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's omission
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert min(losses[3:]) < min(0.3, losses[0] / 2)


def test_nearest_neighbours_learn_what_their_features_show() -> None:
    head = NeighbourHead(3, 2)
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(40) % 2
    colours = torch.tensor([[1.0, 0.5, 0], [0, 0.5, 1.0]])[targets]
    pixels = colours + 0.2 * torch.randn(40, 3, generator=generator)
    for neighbours in head.settings:
        head.solve(pixels[:30], targets[:30], neighbours)
        assert (head(pixels[30:]).argmax(1) == targets[30:]).all()


@pytest.mark.parametrize("name", ["xray", "univfd_knn", "srm"])
def test_the_same_seed_gives_the_same_bytes(
    name: str, table: pd.DataFrame, root: Path, tmp_path: Path
) -> None:
    few = table.groupby(["split", "method"]).head(4).reset_index(drop=True)
    first, second = (fit(name, few, root, tmp_path / str(i)).weights for i in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_that_learns_is_in_one_group(name: str) -> None:
    detector = build_detector(model(name), CLASSES, 0)
    groups = detector.blueprint.parameter_groups(detector.network, 0.05, 1.0)
    grouped = [id(weight) for group in groups for weight in group["params"]]
    learning = [id(weight) for weight in detector.parameters() if weight.requires_grad]
    assert sorted(grouped) == sorted(learning)


def test_layers_without_an_order_cannot_have_other_rates() -> None:
    detector = build_detector(model("dct_cnn"), CLASSES, 0)
    with pytest.raises(InputError, match=r"layer_decay = 0\.9: this detector's layers"):
        detector.blueprint.parameter_groups(detector.network, 0.05, 0.9)


@pytest.mark.parametrize("name", STRIDED)
def test_weights_of_other_classes_replace_all_but_the_head(name: str) -> None:
    published = build_detector(model(name), tuple("abcdefg"), 1).network.state_dict()
    detector = build_detector(model(name), CLASSES, 0, published)
    fresh = [
        key
        for key, value in detector.network.state_dict().items()
        if value.shape != published[key].shape or not torch.equal(value, published[key])
    ]
    assert fresh
    assert all(key.startswith(("fc.", "classifier.")) for key in fresh)


def test_error_levels_show_what_a_compression_changes() -> None:
    crops = np.stack([make_image(0, 32, fake=False), np.full((32, 32, 3), 90, np.uint8)])
    levels = ELA.preprocess(crops)
    assert levels.shape == crops.shape
    assert levels.dtype == np.uint8
    assert levels[0].max() == 255
    assert not levels[1].any()


def test_coefficients_are_counted_in_their_bins() -> None:
    flat = torch.full((1, 3, 16, 16), 1.5)
    counts = Histograms()(flat)
    assert counts.shape == (1, 64, 33)
    torch.testing.assert_close(counts.sum(2), torch.ones(1, 64))
    assert counts[0, 0, 16 + 12] == 1  # the mean of a block, times eight
    assert (counts[0, 1:, 16] == 1).all()
    wave = torch.cos(torch.pi * (torch.arange(16) % 8 + 0.5) * 3 / 8)
    counts = Histograms()(wave.expand(1, 3, 16, 16))
    assert counts[0, 3, 16 + 6] == 1  # frequency (0, 3): sqrt(1/8 * 2/8) * 8 * 4 = 5.66
    assert (counts[0, [1, 2, 4, 8, 24], 16] == 1).all()


def test_half_precision_neither_moves_coefficients_nor_blends() -> None:
    pictures = [make_image(i, 64, fake=False) for i in range(2)]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    detector = build_detector(model("xray"), CLASSES, 0)
    losses, counts = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), torch.no_grad():
            counts.append(Histograms()(pixels))
            loss = detector.blueprint.loss(detector.network, pixels, torch.zeros(2).long(), 0.0)
            losses.append(float(loss))
    assert torch.equal(*counts)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_relations_vanish_where_neighbours_are_equal() -> None:
    small = torch.rand(1, 3, 4, 4)
    doubled = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert not Relations()(doubled).any()
    doubled[0, 0, 1, 1] += 1
    assert Relations()(doubled)[0, 0, 1, 1].item() == pytest.approx(2 / 3)


def test_blends_change_images_inside_an_edge_and_depend_on_the_seed() -> None:
    pixels = torch.randn(3, 3, 32, 32)
    torch.manual_seed(0)
    mixed, edge = blend(pixels)
    torch.manual_seed(0)
    assert torch.equal(blend(pixels)[0], mixed)
    assert not torch.equal(blend(pixels)[0], mixed)
    assert edge.shape == (3, 8, 8)
    assert 0 <= edge.min() <= edge.max() <= 1
    assert (edge.flatten(1).amax(1) > 0.1).all()
    change = (mixed - pixels).abs().mean((0, 1))
    assert change[:2, :2].max() < 0.1 * change[12:20, 12:20].mean()


@pytest.mark.parametrize("classes", [CLASSES, ("real", "gan", "diffusion")])
def test_the_boundary_loss_works_with_any_classes_and_without_reals(
    classes: tuple[str, ...],
) -> None:
    detector = build_detector(model("xray"), classes, 0)
    for targets in (torch.tensor([0, 1, 0, 1]), torch.ones(4, dtype=torch.long)):
        loss: torch.Tensor = detector(random_images(), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's omission
        assert loss.isfinite()
    assert isinstance(detector.network, BoundaryNet)


def test_the_regression_is_the_one_on_scaled_features() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    features = torch.randn(60, 5, generator=generator) + 3
    features[torch.arange(60), targets] += 4
    for classes in (2, 3):
        wanted = targets.clamp(max=classes - 1)
        head = LinearHead(5, classes)
        head.solve(features, wanted, 1.0)
        right = (head(features).argmax(1) == wanted).float().mean()
        assert right > 0.9


def test_the_neighbour_head_compares_with_the_nearest_of_each_class() -> None:
    known = torch.tensor([[1.0, 0], [0.8, 0.6], [0, 2.0]])
    head = NeighbourHead(2, 2)
    head.solve(known, torch.tensor([0, 0, 1]), 2)
    logits = head(torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([[90.0, 0.0]]))
    other = NeighbourHead(2, 2)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(normalize(known)), head(known))


def test_a_frozen_backbone_stays_frozen(table: pd.DataFrame, root: Path, tmp_path: Path) -> None:
    training = fit("univfd", table, root, tmp_path)
    fresh: Detector = build_detector(model("univfd"), CLASSES, 0)
    for key, value in fresh.network.state_dict().items():
        if key.startswith("backbone."):
            assert torch.equal(training.weights[key], value), key
