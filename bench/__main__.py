"""python -m bench [JOB ...]: run jobs, write results.json and .md, fail if a goal is missed."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.jobs import JOBS, run_job
from bench.results import record
from bench.timing import in_child
from src.core.cli import InputError, run

logger = logging.getLogger("bench")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the jobs one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("jobs", nargs="*", help="all, if none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes; 1 is what counts")
    parser.add_argument(
        "--results", type=Path, default=Path("bench"), help="the folder to write to"
    )
    args = parser.parse_args(argv)
    for job in args.jobs:
        if job not in JOBS:
            raise InputError(f"unknown job {job!r}; choose from {', '.join(JOBS)}")
    if not 0 < args.scale <= 1:
        raise InputError(f"--scale {args.scale}: more than 0 and at most 1, please")
    missed = []
    jobs = args.jobs or JOBS
    for number, job in enumerate(jobs, 1):
        logger.info("job %d of %d: %s", number, len(jobs), job)
        outcome, _ = in_child(run_job, job, args.scale)
        record(job, outcome, args.scale, os.cpu_count() or 1, args.results)
        for figure in outcome.figures:
            against = f" against {figure.against}" if figure.against else ""
            line = f"{job}: {figure.what}{against}: {figure.measured}, goal {figure.goal}"
            logger.info("%s: %s", "met" if figure.met else "MISSED", line)
            missed += [] if figure.met else [line]
    if missed:
        sys.exit("\n".join([f"error: {len(missed)} goals are missed:", *missed]))


if __name__ == "__main__":
    run(main)
