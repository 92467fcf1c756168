"""What every stage's command line shares: set up the log, report bad input as one line."""

import logging
import sys
from collections.abc import Callable

logger = logging.getLogger(__name__)


class InputError(ValueError):
    """What the user gave (a parameter, a file, a table) is wrong; the message says what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; bad input ends in one line on stderr and exit code 1.

    Only `InputError` and `OSError` (a missing file, a full disk) are the user's to mend. Anything
    else is a bug of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # It would tell the address of every request, signature and all.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        main()
    except (InputError, OSError) as error:
        logger.debug("where it happened", exc_info=True)
        sys.exit(f"error: {error}")
