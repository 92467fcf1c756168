"""Many clients at once -> how long the server of `judge` takes to answer, and what it holds."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import urllib3

_TIMEOUT = 120


@dataclass
class Answers:
    """What came back."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each request
    wall: float = 0.0  # seconds of all together

    def milliseconds(self, percentile: float) -> float:
        """Return a percentile of the time to answer."""
        return 1000 * float(np.percentile(self.seconds, percentile))

    @property
    def per_second(self) -> float:
        """The requests that were answered in a second."""
        return len(self.seconds) / self.wall


@contextmanager
def serving(models: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield address and process of a server with the detector in `models`."""
    command = [sys.executable, "-m", "judge.server", "--port", "0", "--models", str(models)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    with process.stderr:
        try:
            lines = iter(process.stderr.readline, "")
            address = next(
                found[0] for line in lines if (found := re.search(r"http://\S+\d", line))
            )
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def memory(process: psutil.Process) -> int:
    """Return the bytes that a process and those it started hold."""
    return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))


def under_load(
    address: str,
    pictures: Sequence[bytes],
    clients: int,
    seconds: float = float("inf"),
    requests: float = float("inf"),
) -> Answers:
    """Let `clients` send one picture after the other until `seconds` or `requests` are over.

    Each sends one at least.
    """
    answers, numbers, begin = Answers(), count(), time.perf_counter()

    def ask() -> None:
        with urllib3.PoolManager() as pool:
            for number in numbers:
                late = number >= clients and time.perf_counter() > begin + seconds
                if late or number >= requests:
                    return
                file = ("x.jpg", pictures[number % len(pictures)])
                start = time.perf_counter()
                answer = pool.request(
                    "POST",
                    f"{address}/api/judge",
                    fields={"images": file},
                    retries=False,
                    timeout=_TIMEOUT,
                )
                answers.seconds.append(time.perf_counter() - start)
                answers.statuses.append(answer.status)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.wall = time.perf_counter() - begin
    return answers
