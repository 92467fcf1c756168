"""What every stage's command line shares: set up the log, report bad input as one line."""

import logging
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from src.core import processor

_INTERRUPTED, _NO_READER = 130, 141  # 128 + SIGINT, 128 + SIGPIPE
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


logger = logging.getLogger(__name__)


# They log the address of every request, signature and all, and where credentials were found.
_CHATTY = ("httpx2", "boto3", "botocore", "aiobotocore", "s3transfer")


class InputError(ValueError):
    """What the user gave (a parameter, a file, a table) is wrong; the message says what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; bad input ends in one line on stderr and exit code 1.

    Only `InputError` and `OSError` (a missing file, a full disk) are the user's to fix. Anything
    else is a bug of ours and keeps its traceback. Ctrl-C ends in one line and exit code 130, a
    reader of the output that has left (`| head`) in none and 141: what a shell expects.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    if warning := processor.warning():
        logger.warning(warning)
    try:
        main()
        sys.stdout.flush()  # here, where a failure has one line
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError as error:
        _leave_quietly(error)
    except (InputError, OSError) as error:
        logger.debug("where it happened", exc_info=True)
        sys.exit(f"error: {error}")


def _leave_quietly(error: BrokenPipeError) -> NoReturn:
    """End because nobody reads stdout any more, or report another pipe: a server's."""
    if _has_reader():
        sys.exit(f"error: {error}")
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_NO_READER)


def _has_reader() -> bool:
    poll = select.poll()
    poll.register(sys.__stdout__ or 1, 0)  # nothing but errors, of which a lost reader is one
    return not poll.poll(0)
