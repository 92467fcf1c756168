"""One process -> as many as the environment asks for."""

import os
import sys
from collections.abc import Sequence

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
