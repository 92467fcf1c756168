"""Work -> what it costs: processor and wall seconds, peak memory, ratios of interleaved repeats."""

import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context, set_start_method
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, TypeVar

Result = TypeVar("Result")
_STATUS = Path("/proc/self/status")


class Cost(NamedTuple):
    """What one run took."""

    wall: float  # seconds
    cpu: float  # seconds of this process and of the children that it has waited for
    gigabytes: float = 0.0  # peak memory, where it ran in a process of its own


def repeats(rounds: int, scale: float) -> int:
    """Return how often to repeat at a scale: a trial run of a hundredth needs one figure."""
    return max(1, round(rounds * min(1.0, 10 * scale)))


def cost_of(work: Callable[[], object]) -> Cost:
    """Run `work` here; return its seconds."""
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return Cost(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def interleaved(
    rounds: int, work: Mapping[str, Callable[[], object]], warm: bool = True
) -> dict[str, list[Cost]]:
    """Run every `work` once per round, in turn, so that all meet the same load of the machine.

    `warm`: once more before, uncounted, so that nobody pays for imports and cold files.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in work}
    for number in range(rounds + warm):
        for name, function in work.items():
            cost = cost_of(function)
            if number >= warm:
                costs[name].append(cost)
    return costs


def ratio(
    costs: Mapping[str, list[Cost]], slow: str, fast: str, unit: Literal["cpu", "wall"]
) -> float | None:
    """Return how many times as much `slow` took, the median over rounds; None if it did not run."""
    if slow not in costs:
        return None
    pairs = zip(costs[slow], costs[fast], strict=True)
    return float(median(getattr(one, unit) / getattr(other, unit) for one, other in pairs))


def medians(costs: Mapping[str, list[Cost]]) -> dict[str, dict[str, float]]:
    """Return the median seconds of each work, for the details of an outcome."""
    return {
        name: {
            "cpu_seconds": median(cost.cpu for cost in of_work),
            "wall_seconds": median(cost.wall for cost in of_work),
        }
        for name, of_work in costs.items()
    }


def installed(package: str) -> bool:
    """Return whether a package to compare with is here: requirements.txt does not have it."""
    return find_spec(package) is not None


def in_child(function: Callable[..., Result], *arguments: Any) -> tuple[Result, Cost]:
    """Run a function of a module in a fresh process; return its result and what it cost there."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Result], arguments: tuple[Any, ...]) -> tuple[Result, Cost]:
    # A spawned process would spawn its loaders' workers, too, which no stage does.
    set_start_method(None, force=True)
    wall, cpu = time.perf_counter(), _cpu()
    result = function(*arguments)
    return result, Cost(time.perf_counter() - wall, _cpu() - cpu, peak_gigabytes())


def peak_gigabytes() -> float:
    """Return the most memory that this process has held so far, in 1e9 bytes."""
    if _STATUS.is_file():
        # getrusage would count what the parent held when it started this process.
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
