"""Decoded images, kept on disk from the first epoch on: decoding is most of what a loader does.

They are read back as they were, so that only speed depends on them. The system holds in memory
what it has room for; a file, unlike shared memory, never costs a process its life.
"""

import logging
import math
import mmap
import os
import shutil
import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from src.core.cli import InputError
from src.images.decode import RGBImage

logger = logging.getLogger(__name__)

SPACE_VARIABLE = "REAL_OR_GENERATED_PIXELS"  # in 1e9 bytes; the result does not depend on it


class PixelCache:
    """The pixels of some images, by number; shared with the processes that are forked off.

    The file has no name, so that nothing is left of it when the last of them ends, or is killed.
    """

    def __init__(self, folder: Path, images: int, space: int) -> None:
        """Begin empty, for `images` images in a file in `folder` that grows to `space` bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        # The rest of the disk is for the results.
        self.space = min(space, shutil.disk_usage(folder).free // 2)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it
        self._used = get_context("fork").Value("q")
        # Of each image the end of its pixels in the file, height and width: 0 until it is kept.
        self._index = np.frombuffer(mmap.mmap(-1, 3 * 8 * images), np.int64).reshape(-1, 3)
        logger.info("keeping decoded images, up to %.1f GB, in %s", self.space / 1e9, folder)

    def get(self, number: int) -> RGBImage | None:
        """Return the pixels of an image, uint8, shape (H, W, 3), or None if they are not kept."""
        end, height, width = self._index[number].tolist()
        if not (end and height and width):  # or half of it is written, in whatever order
            return None
        pixels = np.empty((height, width, 3), np.uint8)
        read = os.preadv(self._file.fileno(), [pixels.data], end - pixels.nbytes)
        return pixels if read == pixels.nbytes else None

    def put(self, number: int, pixels: RGBImage) -> None:
        """Keep the pixels of an image, contiguous, if there is room.

        Raises:
            OSError: the disk is full; the error names the folder.
        """
        with self._used.get_lock():
            start, end = self._used.value, self._used.value + pixels.nbytes
            if end > self.space:
                return
            self._used.value = end
        try:
            written = os.pwrite(self._file.fileno(), pixels.data, start)
        except OSError as error:
            error.filename = str(self.folder)  # a failed write does not know what it was writing
            raise
        if written == pixels.nbytes:  # a disk that fills up takes a part, and tells the next why
            self._index[number] = end, *pixels.shape[:2]

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


def local_processes() -> int:
    """Return how many processes of this run share the machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def usable_space() -> int:
    """Return the bytes that pixels may take in each of a machine's processes.

    Together that is what the environment variable says, or a quarter of the memory.

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
        return round(gigabytes * 1e9) // local_processes()
    # What memory does not hold is read from the disk: hardly faster than decoding.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // local_processes()
