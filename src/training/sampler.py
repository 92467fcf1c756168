"""Which images make up which update: a function of seed and epoch, not of earlier draws."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.core.arrays import UInt64Array
from src.core.cli import InputError
from src.core.hashing import ranks
from src.images.loader import Request

Sampling = Literal["all", "class_balanced", "generator_balanced"]


class Strata(NamedTuple):
    """Groups of training images, and how many of each make up an epoch."""

    members: NDArray[np.integer]  # (images,): the stratum of each
    quotas: NDArray[np.integer]  # (strata,): images of each per epoch


def balanced_strata(table: pd.DataFrame, sampling: Sampling) -> Strata | None:
    """Return the strata of `table` (columns label, method) that `sampling` asks for; all: none.

    class_balanced: as many of each class as the smaller one has. generator_balanced: as many of
    both classes, and within a class the same number of each method: what its smallest method has,
    or less where the other class cannot match it.
    """
    if sampling == "all":
        return None
    groups = table.groupby(["label"] if sampling == "class_balanced" else ["label", "method"])
    labels = groups["label"].first()
    smallest = groups.size().groupby(labels.to_numpy()).min()  # of each class's methods
    methods = labels.value_counts()
    per_class = (smallest * methods).min()
    quotas = labels.map(per_class // methods).to_numpy()
    return Strata(groups.ngroup().to_numpy(), quotas)


class BatchSampler:
    """The micro-batches of one process, in the order of the updates."""

    def __init__(
        self,
        keys: UInt64Array,
        seed: int,
        epochs: int,
        batch_size: int,
        accumulation: int,
        rank: int = 0,
        processes: int = 1,
        strata: Strata | None = None,
    ) -> None:
        """Split each batch across `processes`, then into `accumulation` micro-batches.

        With `strata`, each epoch holds other images of those that have more than their quota.

        Raises:
            InputError: the batch cannot be split evenly, or there are too few images for one.
        """
        parts = processes * accumulation
        if batch_size % parts:
            raise InputError(
                f"train.batch_size = {batch_size} cannot be split into {processes} processes x "
                f"train.accumulation = {accumulation}: choose a multiple of {parts}"
            )
        images = int(strata.quotas.sum()) if strata else len(keys)
        if images < batch_size:
            raise InputError(
                f"{images} training images an epoch are fewer than train.batch_size = {batch_size}"
            )
        self.shuffled = ranks(keys, seed)
        self.epochs, self.batch_size, self.accumulation = epochs, batch_size, accumulation
        self.rank, self.processes = rank, processes
        self.micro_batch_size = batch_size // parts
        self.strata = strata
        # What does not fill a batch waits: the next epoch's order leaves out other images.
        self.updates_per_epoch = images // batch_size

    def requests(self, update: int) -> Iterator[Request]:
        """Yield this process's micro-batches from `update` to the end of the last epoch."""
        size = self.batch_size
        start, skipped = divmod(update, self.updates_per_epoch)
        for epoch in range(start, self.epochs):
            order = self._rows(epoch)
            for number in range(skipped, self.updates_per_epoch):
                share = order[number * size : (number + 1) * size][self.rank :: self.processes]
                for part in np.split(share, self.accumulation):
                    yield Request(epoch, part.tolist())
            skipped = 0

    def _rows(self, epoch: int) -> NDArray[np.intp]:
        order = np.argsort(ranks(self.shuffled, epoch), kind="stable")
        if self.strata is None:
            return order
        strata = self.strata.members[order]
        ranked = pd.Series(strata).groupby(strata).cumcount().to_numpy()  # within its stratum
        chosen: NDArray[np.intp] = order[ranked < self.strata.quotas[strata]]
        return chosen
