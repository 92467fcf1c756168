"""What an update of the training loop costs, against the same written in bare PyTorch.

And whether the memory of a run grows from epoch to epoch, its loader's processes included.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
import psutil
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from bench.pictures import make_jpegs, shard_table
from bench.results import Figure, Outcome, at_most
from bench.timing import in_child, interleaved, medians, ratio, repeats
from src.images.loader import Batch
from src.inference.scorer import prepare_torch
from src.models.shared.detector import Detector
from src.train import read_settings
from src.training.checkpoints import Checkpoint
from src.training.config import Epoch
from src.training.loop import GradientTrainer
from src.training.optim import WeightAverage, build_optimizer
from src.training.setup import prepare

IMAGES, UPDATES, BATCHES = 512, 150, 8
WARM_EPOCHS, LATER_EPOCHS, WORKERS = 2, 8, 2  # what libraries load on first use is not growth
SAMPLE_SECONDS = 0.05


def run(scale: float, folder: Path) -> Outcome:
    """Update two copies of params.yaml's detector in turn, on the same batches in memory."""
    settings = read_settings()
    params = settings.train
    prepare_torch(params.threads)
    table = make_images(max(2 * params.batch_size, round(IMAGES * scale)), folder)
    detector, data = prepare(table, folder / "raw", settings)
    copy = deepcopy(detector)
    training = GradientTrainer(detector, data, params, Accelerator(), workers=0)
    requests = islice(training.sampler.requests(0), BATCHES)
    batches = [data.train.batch(request) for request in requests]
    ours, theirs = (cycle(batches) for _ in range(2))
    step = bare_steps(copy, training, theirs)
    costs = interleaved(
        max(10, round(UPDATES * scale)),
        {"here": lambda: training._update([next(ours)]), "bare": step},
    )
    for name, weight in detector.state_dict().items():
        if not torch.equal(weight, copy.state_dict()[name]):
            raise AssertionError(f"the two loops do not do the same: {name} differs")
    epochs = WARM_EPOCHS + repeats(LATER_EPOCHS, scale)
    peaks, _ = in_child(peak_of_epochs, table, folder, epochs)
    growth = max(peaks[WARM_EPOCHS:]) / max(peaks[:WARM_EPOCHS])
    return Outcome(
        [
            Figure("an update", "bare PyTorch", ratio(costs, "here", "bare", "cpu"), at_most(1.03)),
            Figure("peak memory, later epochs", "the first two", growth, at_most(1.05)),
        ],
        {
            "batch_size": params.batch_size,
            "gigabytes_of_epochs": peaks,
            "median": medians(costs),
            "model": settings.model.name,
            "updates": len(costs["here"]),
        },
        ("accelerate", "timm", "torch"),
    )


def make_images(count: int, folder: Path) -> pd.DataFrame:
    """Write images to `folder`/raw; return their split table."""
    table = shard_table(make_jpegs(count), folder / "raw")
    table["split"] = np.where(table.index % 16 < 2, "val", "train")  # some of each class
    return table


def peak_of_epochs(table: pd.DataFrame, folder: Path, epochs: int) -> list[float]:
    """Train; return the most memory, in 1e9 bytes, that all processes together held in each epoch.

    What they share is counted in each of them, in every epoch alike.
    """
    settings = read_settings()
    params = replace(settings.train, epochs=epochs, patience=epochs, warmup_epochs=1)
    prepare_torch(params.threads)
    detector, data = prepare(table, folder / "raw", settings._replace(train=params))
    training = GradientTrainer(detector, data, params, Accelerator(), WORKERS)
    held, peaks, ended = [0.0], [], Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            held.append(gigabytes_held())

    def report(_: Sequence[Epoch]) -> None:
        peaks.append(max(held))
        held[:] = [0.0]

    watcher = Thread(target=watch)
    watcher.start()
    try:
        training.run(Checkpoint(folder / "scratch"), report)
    finally:
        ended.set()
        watcher.join()
    return peaks


def gigabytes_held() -> float:
    """Return the resident memory of this process and those that it has started, in 1e9 bytes."""
    total, here = 0, psutil.Process()
    for process in (here, *here.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return total / 1e9


def bare_steps(
    model: Detector, training: GradientTrainer, batches: Iterator[Batch]
) -> Callable[[], None]:
    """Return a function that makes the next update of `model`, as a tutorial would write it."""
    params, targets = training.params, training.data.targets
    groups = model.blueprint.parameter_groups(
        model.network, params.weight_decay, params.layer_decay
    )
    optimizer = build_optimizer(groups, params.beta2)
    average = WeightAverage(model, params.ema_decay) if params.ema_decay else None
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
