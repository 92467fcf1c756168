"""Which images make up which update: a function of seed and epoch, not of what ran before."""

from collections.abc import Iterator

import numpy as np

from src.command import InputError
from src.images import Request
from src.ranks import UInt64Array, ranks


class Order:
    """The order of the training images, and one process's share of it."""

    def __init__(
        self,
        keys: UInt64Array,
        seed: int,
        epochs: int,
        batch_size: int,
        accumulation: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Deal the `batch_size` images of an update to `processes`, each share to micro-batches.

        Raises:
            InputError: the batch cannot be dealt evenly, or there are too few images for one.
        """
        parts = processes * accumulation
        if batch_size % parts:
            raise InputError(
                f"train.batch_size = {batch_size} cannot be dealt to {processes} processes x "
                f"train.accumulation = {accumulation}: choose a multiple of {parts}"
            )
        if len(keys) < batch_size:
            raise InputError(
                f"{len(keys)} training images are fewer than train.batch_size = {batch_size}"
            )
        self.shuffled = ranks(keys, seed)
        self.epochs, self.batch_size, self.accumulation = epochs, batch_size, accumulation
        self.rank, self.processes = rank, processes
        # What does not fill a batch waits: the next epoch's order leaves out other images.
        self.updates_per_epoch = len(keys) // batch_size

    def requests(self, update: int) -> Iterator[Request]:
        """Yield this process's micro-batches from `update` to the end of the last epoch."""
        size = self.batch_size
        start, skipped = divmod(update, self.updates_per_epoch)
        for epoch in range(start, self.epochs):
            order = np.argsort(ranks(self.shuffled, epoch), kind="stable")
            for number in range(skipped, self.updates_per_epoch):
                share = order[number * size : (number + 1) * size][self.rank :: self.processes]
                for part in np.split(share, self.accumulation):
                    yield Request(epoch, part.tolist())
            skipped = 0
