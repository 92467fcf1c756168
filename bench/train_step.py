"""What an update of the training loop costs, against the same written in bare PyTorch."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from bench.pictures import make_jpegs, shard_table
from bench.results import Figure, Outcome, at_most
from bench.timing import interleaved, medians, ratio
from src.augment import AugmentParams
from src.images import Batch
from src.models import Detector, ModelParams
from src.params import load_params
from src.scoring import fix_arithmetic
from src.train import Settings, prepare
from src.training.loop import Training
from src.training.optim import build_average, build_optimizer
from src.training.recipe import TrainParams

IMAGES, UPDATES, BATCHES = 512, 150, 8


def run(scale: float, folder: Path) -> Outcome:
    """Update two copies of params.yaml's detector in turn, on the same batches in memory."""
    params = load_params(TrainParams, "train")
    settings = Settings(
        load_params(ModelParams, "model"), params, load_params(AugmentParams, "augment")
    )
    fix_arithmetic(params.threads)
    images = max(2 * params.batch_size, round(IMAGES * scale))
    table = shard_table(make_jpegs(images), folder / "raw")
    table["split"] = np.where(table.index % 16 < 2, "val", "train")  # some of each class
    detector, sets = prepare(table, folder / "raw", settings)
    copy = deepcopy(detector)
    training = Training(detector, sets, params, Accelerator(), workers=0)
    requests = islice(training.order.requests(0), BATCHES)
    batches = [sets.train.__getitems__(request) for request in requests]
    ours, theirs = (cycle(batches) for _ in range(2))
    step = bare_steps(copy, training, theirs)
    costs = interleaved(
        max(10, round(UPDATES * scale)),
        {"here": lambda: training._update([next(ours)]), "bare": step},
    )
    for name, weight in detector.state_dict().items():
        if not torch.equal(weight, copy.state_dict()[name]):
            raise AssertionError(f"the two loops do not do the same: {name} differs")
    return Outcome(
        [Figure("an update", "bare PyTorch", ratio(costs, "here", "bare", "cpu"), at_most(1.03))],
        {
            "batch_size": params.batch_size,
            "median": medians(costs),
            "model": settings.model.name,
            "updates": len(costs["here"]),
        },
        ("accelerate", "timm", "torch"),
    )


def bare_steps(model: Detector, training: Training, batches: Iterator[Batch]) -> Callable[[], None]:
    """Return a function that makes the next update of `model`, as a tutorial would write it."""
    params, targets = training.params, training.sets.targets
    groups = model.blueprint.parameter_groups(
        model.network, params.weight_decay, params.layer_decay
    )
    optimizer = build_optimizer(groups, params.beta2)
    average = build_average(model, params.ema_decay) if params.ema_decay else None
    number = count()
    losses: list[float] = []

    def step() -> None:
        rate = training.schedule(next(number))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        model.train()
        batch = next(batches)
        logits = model(batch.images)
        loss = cross_entropy(logits, targets[batch.rows], label_smoothing=params.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's omission
        if params.clip_norm:
            clip_grad_norm_(model.parameters(), params.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        if average:
            average.update_parameters(model)
        losses.append(loss.item())

    return step
