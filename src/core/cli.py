"""What every command line shares: read paths, set up the log, report bad input as one line."""

from __future__ import annotations  # the doctor must start in a Python that is too old

import argparse
import ast
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from src.core import processor

INTERRUPTED, _NO_READER = 130, 141  # 128 + SIGINT, 128 + SIGPIPE
_ROOT = Path(__file__).parents[2]
_ARGUMENTS = "ARGUMENTS"  # in a module: the paths on its command line, in a string
logger = logging.getLogger(__name__)


# They log the address of every request, signature and all, and where credentials were found.
_CHATTY = ("httpx2", "boto3", "botocore", "aiobotocore", "s3transfer")


class InputError(ValueError):
    """What the user gave (a parameter, a file, a table) is wrong; the message says what to do."""


def begin() -> None:
    """For `python -m`, before imports that take seconds: check the paths, let Ctrl-C end in a line.

    `src` calls it when it is imported. Exits with the help, or with what is wrong.
    """
    if sys.argv[:1] != ["-m"]:  # so it is while Python looks for the module
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the shell ignores it
        signal.signal(signal.SIGINT, _end)
    if hasattr(sys, "orig_argv"):  # not in Python 3.8
        _check_paths(sys.orig_argv[-len(sys.argv)].removeprefix("-m"))


def _check_paths(module: str) -> None:
    source = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8") if source.is_file() else "")
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == _ARGUMENTS:
            arguments = ast.literal_eval(node.value)
            parse_paths(ast.get_docstring(tree), arguments, prog=f"python -m {module}")


def parse_paths(
    doc: str | None,
    arguments: str,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> argparse.Namespace:
    """Return a path for each word of `arguments`; with dashes it is an option, but required."""
    parser = argparse.ArgumentParser(prog=prog, description=doc)
    for name in arguments.split():
        if name.startswith("-"):
            parser.add_argument(name, type=Path, metavar="FILE", required=True)
        else:
            parser.add_argument(name, type=Path)
    return parser.parse_args(argv)


def raise_interrupts() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again, for cleaning up."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    # No exception: half-imported libraries turn it into one of theirs, or swallow it.
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


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
        raise_interrupts()
        main()
        sys.stdout.flush()  # here, where a failure has one line
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
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
