"""Section `train` of params.yaml, the images of a run, and the metrics of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
from pydantic import Field
from torch import Tensor

from src.core.arrays import IntArray
from src.core.params import STRICT
from src.images.loader import ImageSet
from src.training.sampler import Sampling, Strata

FINAL_RATE = 1e-6  # of the learning rate's cosine
_VAL_CROPS = 256  # in a batch: of these no activations are kept, so they fit where training does


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class TrainParams:
    """Section `train` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    # Of a head in closed form: the augmented views of each image that it is fitted to.
    epochs: Annotated[int, Field(gt=0, le=10_000)]
    patience: Annotated[int, Field(gt=0, le=10_000)]  # epochs without a better MCC, then stop
    # Whose weights are kept. With a head in closed form always the solution that validates best.
    select: Literal["best", "last"]
    batch_size: Annotated[int, Field(gt=0, le=2**16)]  # images per update, over all processes
    accumulation: Annotated[int, Field(gt=0, le=2**16)]  # micro-batches of a process's share
    sampling: Sampling  # see sampler.balanced_strata
    learning_rate: Annotated[float, Field(gt=FINAL_RATE, le=1)]  # peak, after warm-up
    # The batch that `learning_rate` is meant for: other batches scale it linearly.
    learning_rate_batch: Annotated[int, Field(gt=0, le=2**16)]
    warmup_epochs: Annotated[float, Field(ge=0, le=10_000)]
    beta2: Annotated[float, Field(gt=0, lt=1)]  # AdamW's memory of squared gradients
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # of the rate, from layer to layer below
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Annotated[float, Field(ge=0, le=1e6)]  # of the gradient; 0: no clipping
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # of the averaged weights; 0: no average
    head: Literal["binary", "multiclass"]  # multiclass: one class per generator beside real
    precision: Literal["fp32", "bf16", "fp16"]
    compile: bool  # the network, by torch.compile: faster on a GPU, other last bits
    gradient_checkpointing: bool  # recompute instead of remember: less memory, slower
    val_crops_per_side: Annotated[int, Field(gt=0, le=16)]  # see images.GridCrops
    threads: Annotated[int, Field(gt=0, le=256)]  # of the CPU: their number changes the last bits
    # Of a batch, on a CPU: processes that compute them side by side. Their number changes the last
    # bits, and batch norms see a share.
    shares: Annotated[int, Field(gt=0, le=64)]
    exact: bool  # on a CPU: the bits of any x86-64 processor with AVX2 (see core.processor)

    def __post_init__(self) -> None:
        """Check what no parameter shows alone.

        Raises:
            ValueError: the batch leaves no learning rate.
        """
        if self.peak_rate <= FINAL_RATE:
            raise ValueError(
                f"learning_rate = {self.learning_rate:g} for batches of learning_rate_batch = "
                f"{self.learning_rate_batch} is {self.peak_rate:g} for batch_size = "
                f"{self.batch_size}: raise one, or lower learning_rate_batch, until that is above "
                f"the {FINAL_RATE:g} that the rate ends at"
            )

    @property
    def peak_rate(self) -> float:
        """The learning rate after warm-up, for `batch_size`."""
        return self.learning_rate * self.batch_size / self.learning_rate_batch

    @property
    def val_batch_size(self) -> int:
        """Images that are validated at a time; whatever the accumulation and the processes."""
        return min(self.batch_size, max(1, _VAL_CROPS // self.val_crops_per_side**2))


@dataclass(frozen=True)
class TrainingData:
    """The images to learn from and those to choose the best epoch with."""

    train: ImageSet
    targets: Tensor  # (train images,), int64: position in the detector's classes
    strata: Strata | None  # of the training images; None: all of them make up an epoch
    val: ImageSet
    val_labels: IntArray  # (val images,), REAL or FAKE


@dataclass(frozen=True)
class Epoch:
    """One row of plots/training.csv."""

    epoch: int  # from 1
    learning_rate: float  # of the last update
    train_loss: float  # what is minimised, label smoothing included
    val_loss: float
    val_mcc: float
    val_auroc: float

    def beats(self, other: "Epoch") -> bool:
        """Return whether validation went better: by MCC, at equal MCC by loss."""
        return (self.val_mcc, -self.val_loss) > (other.val_mcc, -other.val_loss)


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch that validated best; of equal ones the first."""
    best = history[0]
    for epoch in history[1:]:
        best = epoch if epoch.beats(best) else best
    return best
