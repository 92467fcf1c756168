"""Rows of a split table -> batches of uint8 crops, read straight from the shards."""

import math
import mmap
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from src.core.cli import InputError
from src.core.hashing import image_keys
from src.images.crops import Crops
from src.images.decode import RGBImage, UndecodableImage, decode
from src.images.pixel_cache import PixelCache, local_processes
from src.images.shards import ShardReader

WORKERS_VARIABLE = "REAL_OR_GENERATED_WORKERS"  # the result does not depend on it
_MOST_WORKERS = 256
_AHEAD = 4  # batches that a worker makes before anybody wants them


class Request(NamedTuple):
    """What a loader asks of an `ImageSet`: these rows, as they look in this epoch."""

    epoch: int
    rows: Sequence[int]


class Batch(NamedTuple):
    """Crops of some images, those of one image next to each other."""

    images: Tensor  # (rows * crops, size, size, 3), uint8
    rows: Tensor  # (rows,), int64: positions in the table


class Render(Protocol):
    """Turns a decoded image into the crops that the network sees."""

    def __call__(self, image: RGBImage, epoch: int, key: int) -> Crops:
        """Return the crops; a function of the arguments alone, so workers need no seeds."""


class ImageSet:
    """The images of a table; it knows where they are, not what they are.

    Labels stay with the caller: what never reaches the workers cannot leak into an augmentation.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        render: Render,
        preprocess: Callable[[Crops], Crops] | None = None,
        kept: PixelCache | None = None,
    ) -> None:
        """Serve `table` (columns image_id, shard, offset, length) from the shards in `root`.

        What `preprocess` makes of the crops is what the network sees (see Blueprint.preprocess).
        `kept` has and gets the pixels of each image, by the index of `table`.
        """
        self.ids = table["image_id"].to_numpy(dtype=str)
        self.shards = table["shard"].to_numpy(dtype=str)
        self.offsets = table["offset"].to_numpy(dtype=np.int64)
        self.lengths = table["length"].to_numpy(dtype=np.int64)
        self.keys = image_keys(table["image_id"])
        self.reader = ShardReader(root)
        self.render = render
        self.preprocess = preprocess
        self.kept = kept
        self.numbers = table.index.to_numpy()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def __getitem__(self, row: int) -> Batch:
        """Return one image as a batch of one, as it looks in the first epoch."""
        return self.batch(Request(0, [row]))

    def batch(self, request: Request) -> Batch:
        """Return what `request` asks for.

        Raises:
            UndecodableImage: an image has been damaged since the metadata stage.
        """
        crops = [self._crops(row, request.epoch) for row in request.rows]
        return Batch(torch.from_numpy(np.concatenate(crops)), torch.tensor(request.rows))

    def _crops(self, row: int, epoch: int) -> Crops:
        crops = self.render(self._pixels(row), epoch, int(self.keys[row]))
        return self.preprocess(crops) if self.preprocess else crops

    def _pixels(self, row: int) -> RGBImage:
        if not self.kept:
            return self._decoded(row)
        number = self.numbers[row]
        if (pixels := self.kept.get(number)) is None:
            pixels = self._decoded(row)
            self.kept.put(number, pixels)
        return pixels

    def _decoded(self, row: int) -> RGBImage:
        shard, offset, length = str(self.shards[row]), self.offsets[row], self.lengths[row]
        try:
            return decode(self.reader.read(shard, int(offset), int(length)))
        except UndecodableImage as error:
            raise UndecodableImage(f"{self.ids[row]} in {shard}: {error}") from error


def default_workers() -> int:
    """Return the number of loader processes: of the environment variable, or one per core.

    Raises:
        InputError: the variable holds no such number.
    """
    if value := os.environ.get(WORKERS_VARIABLE):
        if not value.isdecimal() or int(value) > _MOST_WORKERS:
            raise InputError(
                f"{WORKERS_VARIABLE}={value}: set it to a number of processes, 0 to {_MOST_WORKERS}"
            )
        return int(value)
    # Processes of one machine share its cores.
    return min(8, max(1, (os.cpu_count() or 1) // local_processes()))


def consecutive(rows: int, batch_size: int, epoch: int = 0) -> list[Request]:
    """Return requests for rows 0 to `rows` - 1 in order; the last may be smaller."""
    starts = range(0, rows, batch_size)
    return [Request(epoch, range(start, min(start + batch_size, rows))) for start in starts]


class BatchLoader:
    """The batches that are requested, in their order, whatever the number of workers.

    Its worker processes live as long as the loader and fetch ahead across epochs.
    """

    def __init__(
        self,
        images: ImageSet,
        requests: Iterable[Request],
        batch_size: int,
        workers: int,
        pin_memory: bool = False,
    ) -> None:
        """Serve `requests` for at most `batch_size` rows each; 0 workers: in this process."""
        cv2.setNumThreads(0)  # one process per core already; OpenCV's pool would fight over them
        self._slots, self._pin_memory = _Slots(images, batch_size, workers), pin_memory
        self._ready = DataLoader(
            self._slots,
            batch_sampler=requests,  # type: ignore[arg-type]  # its items go to `__getitems__` as is
            collate_fn=_as_is,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # workers inherit the slots
            worker_init_fn=_begin_worker,
            persistent_workers=workers > 0,
            prefetch_factor=_AHEAD if workers else None,
            generator=torch.Generator(),  # else every iteration would advance torch's global stream
        )

    def __len__(self) -> int:
        """Return the number of requests, if they are a list."""
        return len(self._ready)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches that are the caller's to keep.

        Raises:
            InputError: an image is damaged, or the system has killed a worker.
        """
        try:
            for ready in self._ready:
                if isinstance(ready, Exception):
                    raise ready
                slot, shape, rows = ready
                images = self._slots.memory[slot, : math.prod(shape)].view(shape)
                mine = images.pin_memory() if self._pin_memory else images.clone()
                yield Batch(mine, torch.tensor(rows))
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise InputError(
                "the system has killed a process that loads images, most likely for want of "
                f"memory: set {WORKERS_VARIABLE} to fewer processes, or to 0"
            ) from error


class _Slots(Dataset[Any]):
    """Memory that workers put their batches into, and the process they work for takes them from.

    Anonymous and inherited, so that none of /dev/shm is needed, of which a container has 64 MB; and
    used again and again: for the system to clear and map new pages takes as long as the pixels do.
    A worker is asked for a batch at most `_AHEAD` later than the one that is being taken over.
    """

    def __init__(self, images: ImageSet, batch_size: int, workers: int) -> None:
        """Reserve the memory; a slot holds the crops of `batch_size` images."""
        self._images, self._turns = images, cycle(range(_AHEAD + 1))
        slots = max(1, workers) * (_AHEAD + 1)
        memory = mmap.mmap(-1, slots * batch_size * images[0].images.nbytes)
        self.memory = torch.frombuffer(memory, dtype=torch.uint8).view(slots, -1)

    def __getitems__(
        self, request: Request
    ) -> tuple[int, Sequence[int], Sequence[int]] | Exception:
        """Return slot, shape and rows of a batch; or what is wrong, without the traceback."""
        try:
            images = self._images.batch(request).images
        except (InputError, OSError) as error:
            return error
        worker = get_worker_info()
        slot = (worker.id if worker else 0) * (_AHEAD + 1) + next(self._turns)
        self.memory[slot, : images.numel()] = images.flatten()
        return slot, tuple(images.shape), request.rows


def _as_is(batch: Any) -> Any:
    return batch  # `__getitems__` has put it together


def _begin_worker(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that they work for
    cv2.setNumThreads(0)
