"""The types of NumPy arrays that several modules speak of, and their memory."""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
UInt8Array = NDArray[np.uint8]
UInt16Array = NDArray[np.uint16]
UInt64Array = NDArray[np.uint64]
IndexArray = NDArray[np.int32] | NDArray[np.int64]

_LARGEST = 2**25 - 2**16  # bytes: glibc learns up to 32 MiB, header and all


def keep_freed_memory() -> None:
    """Let the next array have the memory of the last, instead of the system's.

    glibc asks the system for every block above a threshold and gives it back when it is freed, and
    to clear and map its pages anew costs more than the arithmetic on it. The threshold rises to the
    largest such block that was freed, so one is freed here. Harmless where memory comes from
    elsewhere.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    np.empty(_LARGEST, np.uint8)
