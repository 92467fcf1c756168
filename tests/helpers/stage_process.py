"""The download stage in a process of its own, to be killed."""

import os
import resource
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from src import download
from src.core import cli
from src.dataset import raw
from src.sources.local.cache import CACHE_VARIABLE
from src.sources.origins import in_flight
from src.sources.shared import origin_source


def start_download(
    folder: Path,
    cache: str = "cache",
    *,
    die_in: tuple[str, int] | None = None,
    largest_file: int | None = None,
) -> ForkServerProcess:
    """Start the stage in `folder`, with the folder `cache` in it as its cache.

    `die_in` is a function that `raw` uses, and in which of its calls the process ends. The kernel
    lets no file grow beyond `largest_file` bytes: a full disk that needs no privileges. What the
    stage says stands in the file `stderr`.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports take longer than all that is tested
    process = context.Process(target=_download, args=(folder, cache, die_in, largest_file))
    process.start()
    return process


def _download(
    folder: Path, cache: str, die_in: tuple[str, int] | None, largest_file: int | None
) -> None:
    os.chdir(folder)
    os.environ[CACHE_VARIABLE] = str(folder / cache)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    origin_source._TOGETHER = 2  # of few images, so that kills find some of them kept
    in_flight.MAX_WASTE = 0  # so that a request is for what is wanted and for nothing else
    if die_in:
        setattr(raw, die_in[0], _dying(getattr(raw, die_in[0]), die_in[1]))
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    cli.run(lambda: download.main(["data/raw"]))


def _dying(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    calls = iter(range(1, call + 1))

    def last(*args: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)

    return last
