"""Optimizer, learning-rate schedule, layer-wise decay and moving average of the weights."""

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.models.shared.detector import Detector
from src.training.config import FINAL_RATE


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the update: linear warm-up, then a cosine.

    Source: `cosine_scheduler` of BEiT's and BEiT-3's fine-tuning code.
    """

    peak: float
    updates: int
    warmup: int
    final: float = FINAL_RATE

    def __call__(self, update: int) -> float:
        """Return the rate of update 0, 1, ..., `updates` - 1."""
        if update < self.warmup:
            return self.final + (self.peak - self.final) * update / max(1, self.warmup - 1)
        progress = (update - self.warmup) / max(1, self.updates - self.warmup)
        return self.final + (self.peak - self.final) * (1 + math.cos(math.pi * progress)) / 2


def build_optimizer(groups: list[dict[str, Any]], beta2: float) -> AdamW:
    """Return AdamW over `groups` (see `models.parameter_groups`); its rate is set every update."""
    # On a CPU in one kernel of PyTorch's: otherwise square roots come from MKL, which takes others
    # on each vendor's processors.
    on_cpu = all(weight.device.type == "cpu" for group in groups for weight in group["params"])
    return AdamW(groups, lr=0.0, betas=(0.9, beta2), fused=True if on_cpu else None)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every group to `rate` times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


class WeightAverage(AveragedModel):
    """A moving average of a detector's weights; the first update copies them."""

    module: Detector

    def __init__(self, detector: Detector, decay: float) -> None:
        """Begin with a copy of `detector`."""
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's omission
        super().__init__(detector, multi_avg_fn=average)
