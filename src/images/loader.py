"""Rows of a split table -> batches of uint8 crops, read straight from the shards."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from src.images.pixel_cache import PixelStore
from src.images.shards import ShardReader

WORKERS_VARIABLE = "REAL_OR_GENERATED_WORKERS"  # the result does not depend on it
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


class ImageSet(Dataset[Batch]):
    """The images of a table; it knows where they are, not what they are.

    Labels stay with the caller: what never reaches the workers cannot leak into an augmentation.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        root: Path,
        render: Render,
        preprocess: Callable[[Crops], Crops] | None = None,
        kept: PixelStore | None = None,
    ) -> None:
        """Serve `table` (columns image_id, shard, offset, length) from the shards in `root`.

        What `preprocess` makes of the crops is what the network sees (see models.Blueprint).
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
        self.slots = _Slots()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def __getitem__(self, row: int) -> Batch:
        """Return one image as a batch of one, as it looks in the first epoch."""
        return self.__getitems__(Request(0, [row]))

    def __getitems__(self, request: Request) -> Batch:
        """Return a whole batch: one call, one tensor through the worker boundary.

        Raises:
            UndecodableImage: an image has been damaged since the metadata stage.
        """
        crops = (self._crops(row, request.epoch) for row in request.rows)
        return Batch(self._joined(crops, len(request.rows)), torch.tensor(request.rows))

    def _joined(self, parts: Iterable[Crops], count: int) -> Tensor:
        """Return `count` parts of equal shape as one tensor, filled one by one."""
        batch = torch.empty(0, dtype=torch.uint8)
        for number, part in enumerate(parts):
            if number == 0:
                shape = count, *part.shape
                batch = torch.empty(shape, dtype=torch.uint8)
                if get_worker_info():
                    batch = self.slots.take(shape)
                filled = batch.numpy()
            filled[number] = part
        return batch.flatten(0, 1)

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
        place = str(self.shards[row]), int(self.offsets[row]), int(self.lengths[row])
        try:
            return decode(self.reader.read(*place))
        except UndecodableImage as error:
            raise UndecodableImage(f"{self.ids[row]} in {place[0]}: {error}") from error


class _Slots:
    """Where a worker puts its batches together: memory that the process it works for sees as well.

    Used again and again: for the system to clear and map new pages takes as long as the pixels do.
    When a worker is asked for a batch, `_AHEAD` later than one that is being taken over, those
    before that one are no longer needed.
    """

    def __init__(self) -> None:
        """Take no memory yet."""
        self._slots = deque([torch.empty(0, dtype=torch.uint8)] * (_AHEAD + 1))

    def take(self, shape: Sequence[int]) -> Tensor:
        """Return the slot whose turn it is as a tensor of bytes, filled with whatever."""
        slot, size = self._slots.popleft(), math.prod(shape)
        if len(slot) < size:
            memory = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
            slot = torch.empty(0, dtype=torch.uint8).set_(memory)
        self._slots.append(slot)
        return slot[:size].view(shape)


def default_workers() -> int:
    """Return the number of loader processes: of the environment variable, or one per core.

    Raises:
        InputError: the variable holds no such number.
    """
    if value := os.environ.get(WORKERS_VARIABLE):
        if not value.isdecimal():
            raise InputError(
                f"{WORKERS_VARIABLE}={value}: set it to a number of processes, 0 or more"
            )
        return int(value)
    # Processes of one machine share its cores.
    return min(8, max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def consecutive(rows: int, batch_size: int, epoch: int = 0) -> list[Request]:
    """Return requests for rows 0 to `rows` - 1 in order; the last may be smaller."""
    starts = range(0, rows, batch_size)
    return [Request(epoch, range(start, min(start + batch_size, rows))) for start in starts]


class Loader:
    """The batches that are requested, in their order, whatever the number of workers."""

    def __init__(self, batches: DataLoader[Batch]) -> None:
        """Hand over what `batches` yields."""
        self._batches = batches

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches that are the caller's to keep."""
        return map(_out_of_slot, self._batches)


def build_loader(
    images: ImageSet, requests: Iterable[Request], workers: int, pin_memory: bool = False
) -> Loader:
    """Return a loader of one `Batch` per request.

    Its worker processes live as long as the loader and fetch ahead across epochs.
    """
    _single_threaded(0)  # without workers the batches are made right here
    batches = DataLoader(
        images,
        batch_sampler=requests,  # type: ignore[arg-type]  # its items go to `__getitems__` as is
        collate_fn=_as_is,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_single_threaded,
        persistent_workers=workers > 0,
        prefetch_factor=_AHEAD if workers else None,
        generator=torch.Generator(),  # else every iteration would advance torch's global stream
    )
    return Loader(batches)


def _as_is(batch: Any) -> Any:
    return batch  # `__getitems__` has put it together


def _out_of_slot(batch: Batch) -> Batch:
    # Pinned memory is a copy already, and without workers there are no slots.
    is_slot = batch.images.is_shared()  # type: ignore[no-untyped-call]
    return Batch(batch.images.clone(), batch.rows) if is_slot else batch


def _single_threaded(_worker: int) -> None:
    cv2.setNumThreads(0)  # one process per core already; OpenCV's pool would fight over them
