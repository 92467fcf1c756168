"""How the C library gives memory back, and why that is to be avoided."""

import numpy as np

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
