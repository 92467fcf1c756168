import math

import pytest
import torch
from torch import Tensor, nn

from src.models.shared.detector import Detector, build_detector
from src.training.optim import Schedule, WeightAverage, build_optimizer, set_learning_rate
from tests.helpers.make_training import MODEL


def test_the_schedule_against_hand_computed_rates() -> None:
    schedule = Schedule(peak=1e-3, updates=110, warmup=10)
    assert schedule(0) == 1e-6
    assert schedule(9) == pytest.approx(1e-3)
    assert schedule(3) == pytest.approx(1e-6 + (1e-3 - 1e-6) / 3)
    assert schedule(10) == pytest.approx(1e-3)
    assert schedule(60) == pytest.approx((1e-3 + 1e-6) / 2)
    assert schedule(85) == pytest.approx(1e-6 + (1e-3 - 1e-6) * (1 - math.sqrt(0.5)) / 2)
    assert 1e-6 < schedule(109) < 2e-6


def test_without_warm_up_the_first_update_has_the_peak_rate() -> None:
    assert Schedule(peak=1e-3, updates=5, warmup=0)(0) == pytest.approx(1e-3)


def test_layer_decay_and_weight_decay_groups_against_hand_computed_values() -> None:
    # Two blocks: the embedding is layer 0, the blocks 1 and 2, the head 3.
    detector = build_detector(MODEL, ("real", "fake"), 0)
    names = {id(weight): name for name, weight in detector.network.named_parameters()}
    groups = detector.blueprint.parameter_groups(
        detector.network, weight_decay=0.05, layer_decay=0.5
    )
    found = {
        names[id(weight)]: (group["lr_scale"], group["weight_decay"])
        for group in groups
        for weight in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["patch_embed.proj.weight"] == (0.125, 0.05)
    assert found["patch_embed.proj.bias"] == (0.125, 0.0)
    assert found["pos_embed"] == (0.125, 0.0)
    assert found["cls_token"] == (0.125, 0.0)
    assert found["blocks.0.attn.qkv.weight"] == (0.25, 0.05)
    assert found["blocks.1.norm1.weight"] == (0.5, 0.0)
    assert found["fc_norm.weight"] == (1.0, 0.0)
    assert found["head.weight"] == (1.0, 0.05)


def test_the_rate_of_a_group_is_scaled() -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [
        {"params": [weight], "lr_scale": scale, "weight_decay": 0.0}
        for weight, scale in zip(weights, (1.0, 0.25), strict=True)
    ]
    optimizer = build_optimizer(groups, beta2=0.999)
    set_learning_rate(optimizer, 0.1)
    for weight in weights:
        weight.grad = torch.ones(1)
    optimizer.step()
    # The first step of Adam has the length of the rate.
    assert weights[0].item() == pytest.approx(-0.1)
    assert weights[1].item() == pytest.approx(-0.025)


def test_the_average_against_hand_computed_values() -> None:
    detector = build_detector(MODEL, ("real", "fake"), 0)
    average = WeightAverage(detector, decay=0.9)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(detector.network.get_parameter("head.weight"), value)
        average.update_parameters(detector)
    assert isinstance(average.module, Detector)
    # 1; 0.9 * 1 + 0.1 * 2 = 1.1; 0.9 * 1.1 + 0.1 * 3 = 1.29
    weight: Tensor = average.module.network.get_parameter("head.weight")
    torch.testing.assert_close(weight, torch.full_like(weight, 1.29))
