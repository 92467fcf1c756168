"""This machine, this checkout and its remotes -> what works and what to do about the rest."""

# Python 3.8 must get as far as to learn that it is too old.
from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.core.cli import INTERRUPTED, InputError, raise_interrupts
from tools.remote.check_machine import (
    check_accelerator,
    check_checkout,
    check_environment_disk,
    check_packages,
    check_processor,
    check_python,
    check_shared_memory,
    check_system,
)
from tools.remote.finding import Finding, Level, fail

REQUIREMENTS = Path("requirements.txt")


def diagnose(machine: bool, full: bool, build: bool) -> Iterator[Finding]:
    """Yield findings, from the ground up.

    With `machine`, on this machine too; `full` and `build` are those of `check_remotes`.
    """
    if machine:
        python = check_python(sys.version_info[:2])
        yield python
        if python.level is Level.FAIL:
            return  # whatever else is wrong may come from that
        yield check_system(platform.system())
        yield from check_environment_disk(Path.cwd(), Path(".venv"))
        yield check_packages(REQUIREMENTS)
        yield check_accelerator()
        yield check_processor()
        yield from check_shared_memory(Path("/dev/shm"))
    try:
        # Here: a doctor that needs everything healthy could only ever say so.
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        from tools.remote.check_remote import check_remotes
        from tools.remote.s3_errors import first_line
    except ImportError as error:
        yield fail("dvc", f"does not import: {error}", "make setup")
        return
    if machine:
        yield from check_checkout(Path.cwd())
    try:
        with Repo() as repo:
            yield from check_remotes(repo, full, build)
    except (DvcException, InputError) as error:
        yield fail("remotes", first_line(error), "not looked at: the above comes first")


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each finding; exit code 1 if one of them is FAIL."""
    parser = argparse.ArgumentParser(description=__doc__)
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--full", action="store_true", help="read and hash every remote object")
    depth.add_argument(
        "--build", action="store_true", help="objects that nobody has are built here: no FAIL"
    )
    parser.add_argument("--remote-only", action="store_true", help="leave this machine out")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    levels: Counter[Level] = Counter()
    try:
        raise_interrupts()
        for finding in diagnose(not args.remote_only, args.full, args.build):
            sys.stdout.write(f"{finding}\n")
            sys.stdout.flush()
            levels[finding.level] += 1
    except BrokenPipeError:  # the reader has enough (`| head`): nobody is left to write to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(1 if levels[Level.FAIL] else 0)


if __name__ == "__main__":
    main()
