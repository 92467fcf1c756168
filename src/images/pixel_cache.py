"""Decoded images, kept on disk from the first epoch on: decoding is most of what a loader does.

They are read back as they were, so that only speed depends on them. The system holds in memory
what it has room for; a file, unlike shared memory, never costs a process its life.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from src.core.cli import InputError
from src.images.decode import RGBImage

logger = logging.getLogger(__name__)

SPACE_VARIABLE = "REAL_OR_GENERATED_PIXELS"  # in 1e9 bytes; the result does not depend on it


class PixelStore:
    """The pixels of some images, by number; shared by all processes of a machine.

    The place of an image is the end of its pixels in the file, its height and its width: all 0
    until it is kept.
    """

    def __init__(self, path: Path, limit: int) -> None:
        """Open what `create` made at `path`; it grows to at most `limit` bytes."""
        self.path, self.limit = path, limit
        self.places = np.memmap(_places(path), np.int64, "r+").reshape(-1, 3)

    @classmethod
    def create(cls, path: Path, images: int) -> None:
        """Make an empty store for `images` images at `path`."""
        path.parent.mkdir(parents=True)
        path.touch()
        # Written, not only sized: a full disk is an error here, and a crash in a memory map.
        np.zeros(3 * images, np.int64).tofile(_places(path))

    def __reduce__(self) -> tuple[type["PixelStore"], tuple[Path, int]]:
        """Pickle where it is: another process opens it anew."""
        return PixelStore, (self.path, self.limit)

    def get(self, number: int) -> RGBImage | None:
        """Return the pixels of an image, uint8, shape (H, W, 3), or None if they are not kept.

        Raises:
            InputError: the file has become shorter.
        """
        end, height, width = self.places[number].tolist()
        if not (end and height and width):  # or half of it is written, in whatever order
            return None
        pixels = np.empty((height, width, 3), np.uint8)
        with _opened(self.path, os.O_RDONLY) as file:
            if os.preadv(file, [pixels.data], end - pixels.nbytes) != pixels.nbytes:
                raise InputError(f"{self.path} was cut short while in use: run the stage again")
        return pixels

    def put(self, number: int, pixels: RGBImage) -> None:
        """Keep the pixels of an image, contiguous, if there is room.

        Raises:
            OSError: the disk is full.
        """
        if self.path.stat().st_size + pixels.nbytes > self.limit:
            return
        # The system lets one process after the other append, and each then stands at its own end.
        with _opened(self.path, os.O_WRONLY | os.O_APPEND) as file:
            # A full disk takes a part of it, and tells the next one why.
            if os.write(file, pixels.data) == pixels.nbytes:
                self.places[number] = os.lseek(file, 0, os.SEEK_CUR), *pixels.shape[:2]


def _places(path: Path) -> Path:
    return path.with_name(f"{path.name}.places")


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # A descriptor that a forked process inherits has its position in common with the parent's.
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield file
    except OSError as error:
        error.filename = str(path)  # a failed write does not know what it was writing
        raise
    finally:
        os.close(file)


@contextmanager
def kept_pixels(
    folder: Path, images: int, space: int, accelerator: Accelerator
) -> Iterator[PixelStore | None]:
    """Yield a store of `space` bytes for `images` images in `folder`; None where that is 0.

    It is deleted in the end. Only one run at a time may use `folder`; the processes that it has on
    one machine share one store.
    """
    if not space:
        yield None
        return
    if accelerator.is_main_process:  # it has made sure that no other run is here
        for leftover in folder.glob("pixels-*"):  # of runs that were killed
            shutil.rmtree(leftover)
    accelerator.wait_for_everyone()
    # Machines may share the folder, but of a file only one of them sees where it ends.
    mine = folder / f"pixels-{accelerator.process_index - accelerator.local_process_index}"
    if accelerator.is_local_main_process:
        PixelStore.create(mine / "pixels", images)
    accelerator.wait_for_everyone()
    # The rest of the disk is for the results.
    limit = min(space, shutil.disk_usage(mine).free // 2)
    if accelerator.is_local_main_process:
        logger.info("keeping decoded images, up to %.1f GB, in %s", limit / 1e9, mine)
    try:
        yield PixelStore(mine / "pixels", limit)
    finally:
        if accelerator.is_local_main_process:
            shutil.rmtree(mine)


def usable_space() -> int:
    """Return the bytes that pixels may take: of the environment variable, or memory's quarter.

    Raises:
        InputError: the variable holds no size.
    """
    if value := os.environ.get(SPACE_VARIABLE):
        try:
            gigabytes = float(value)
        except ValueError:
            gigabytes = math.nan
        if not 0 <= gigabytes < math.inf:
            raise InputError(
                f"{SPACE_VARIABLE}={value}: set it to the gigabytes for decoded images, 0 or more"
            )
        return round(gigabytes * 1e9)
    # What memory does not hold is read from the disk: hardly faster than decoding.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
