"""One process -> as many as the environment asks for; on a CPU one for each share of a batch."""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import distributed

from src.core.cli import InputError

PROCESSES_VARIABLE = "REAL_OR_GENERATED_PROCESSES"

_SAME = 3  # exit code of a process that has met what the first one meets, too, and reports
_MOMENT, _PATIENCE = 2.0, 60.0  # seconds until the first one has failed of the same by itself


def launch_processes(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by torchrun with so many of `module`, if the variable asks for it.

    Does nothing in a process that torchrun started.

    Raises:
        InputError: the variable holds no number of processes.
    """
    wanted = os.environ.get(PROCESSES_VARIABLE, "1")
    if not wanted.isdecimal() or int(wanted) == 0:
        raise InputError(
            f"{PROCESSES_VARIABLE}={wanted}: set it to a number of processes, 1 or more"
        )
    if int(wanted) == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", wanted
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", module, *arguments])


def run_shares(main: Callable[[], None], shares: int) -> None:
    """Run `main` in `shares` processes side by side, each with its share of every batch.

    In this one alone on a GPU, or where somebody else has said how many processes there are. How
    many there are decides the order of sums, how many cores they have does not.
    """
    told = PROCESSES_VARIABLE in os.environ or "WORLD_SIZE" in os.environ
    if shares == 1 or told or torch.accelerator.is_available():
        main()
        return
    with tempfile.TemporaryDirectory() as folder:
        # Forked, as loaders fork their workers: libraries are imported once, and none has begun.
        fork = multiprocessing.get_context("fork")
        children = [
            fork.Process(target=_run_share, args=(main, rank, shares, Path(folder)))
            for rank in range(1, shares)
        ]
        for child in children:
            child.start()
        finished = threading.Event()
        threading.Thread(target=_watch, args=(children, finished, folder), daemon=True).start()
        try:
            _join(0, shares, Path(folder))
            main()
            for child in children:
                child.join()
        except RuntimeError as error:  # what a lost connection is reported as
            wait([child.sentinel for child in children], _MOMENT)
            if any((child.exitcode or 0) < 0 for child in children):
                raise InputError(_obituary(children)) from error
            raise
        finally:
            finished.set()
            for child in children:
                child.kill()
    if any(child.exitcode for child in children):
        raise InputError(_obituary(children))


def _run_share(main: Callable[[], None], rank: int, shares: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=_follow, daemon=True).start()
    try:
        _join(rank, shares, folder)
        main()
    except InputError:
        sys.exit(_SAME)


def _follow() -> None:
    """End this process with the first one, however that ends."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


def _watch(children: Sequence[BaseProcess], finished: threading.Event, folder: str) -> None:
    """End this process where another has died for which it waits: in C++, and for half an hour."""
    while not finished.wait(_MOMENT):
        failed = [child.exitcode for child in children if child.exitcode]
        patience = _PATIENCE if set(failed) == {_SAME} else _MOMENT
        if failed and not finished.wait(patience):
            sys.stderr.write(f"error: {_obituary(children)}\n")
            sys.stderr.flush()
            for child in children:
                child.kill()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)


def _obituary(children: Sequence[BaseProcess]) -> str:
    codes = [child.exitcode for child in children if child.exitcode]
    killed = -signal.SIGKILL in codes
    cure = "is there enough memory? Set train.shares to 1" if killed else "see above"
    count = f"{len(codes)} of {len(children)} processes beside this one"
    return f"train.shares: {count} ended with {codes}: {cure}"


def _join(rank: int, shares: int, folder: Path) -> None:
    """Say who this process is in the words of torchrun, and meet the others."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(shares),
        "LOCAL_WORLD_SIZE": str(shares),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",  # until `prepare_torch` says how many
    }
    # They meet at a file: it needs no free port.
    place = (folder / "store").as_uri()
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=shares)
