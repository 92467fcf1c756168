"""Work on many images: in every core, in order, with a progress bar."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import joblib
import pandas as pd
from tqdm import tqdm

Result = TypeVar("Result")

# Enough for the work to outweigh the hand-over, few enough for a bar that moves.
_IMAGES_AT_ONCE = 256
# Encoded images that take about as long to decode as another process takes to start.
_BYTES_PER_WORKER = 20_000_000


def map_images(
    function: Callable[[pd.DataFrame], Result], images: pd.DataFrame, description: str
) -> Iterator[Result]:
    """Yield `function(rows)` for successive rows of `images`, in order; `length` is a column.

    Which rows are handed over together depends on neither the machine nor the number of its
    cores, so the results do not either. `function` may be called in other processes.
    """
    starts = range(0, len(images), _IMAGES_AT_ONCE)
    chunks = (images.iloc[start : start + _IMAGES_AT_ONCE] for start in starts)
    workers = min(joblib.cpu_count(), 1 + int(images["length"].sum()) // _BYTES_PER_WORKER)
    results = joblib.Parallel(n_jobs=workers, return_as="generator")(
        joblib.delayed(_counted)(function, rows) for rows in chunks
    )
    with tqdm(total=len(images), desc=description, unit=" images", unit_scale=True) as bar:
        for size, result in results:
            bar.update(size)
            yield result


def _counted(function: Callable[[pd.DataFrame], Result], rows: pd.DataFrame) -> tuple[int, Result]:
    cv2.setNumThreads(0)  # one process per core already; OpenCV's pool would fight over them
    return len(rows), function(rows)
