"""One process -> as many as the environment asks for; on a CPU one for each share of a batch."""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import distributed

from src.core.cli import InputError

PROCESSES_VARIABLE = "REAL_OR_GENERATED_PROCESSES"


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
        children = [_fork(main, rank, shares, Path(folder)) for rank in range(1, shares)]
        try:
            _join(0, shares, Path(folder))
            main()
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        except BaseException:
            for child in children:
                os.kill(child, signal.SIGKILL)
            raise
    if any(codes):
        raise RuntimeError(f"the processes beside this one ended with {codes}")


def _fork(main: Callable[[], None], rank: int, shares: int, folder: Path) -> int:
    if child := os.fork():
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
        _join(rank, shares, folder)
        main()
        code = 0
    except InputError:
        pass  # the first process meets it too, and says so
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
    os._exit(code)


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
