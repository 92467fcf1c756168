"""What a job measures, as figures with goals -> results.json and results.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from src.core.files import read_json, replacing, write_json

_HEAD = """| job | what | against | goal | measured | met |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Goal:
    """A bound that a figure must keep."""

    sign: str  # "≥" or "≤"
    bound: float
    unit: str  # "x", "s", "GB", ...

    def met_by(self, value: float) -> bool:
        """Return whether `value` keeps the bound."""
        return value >= self.bound if self.sign == "≥" else value <= self.bound

    def __str__(self) -> str:
        """Return the goal as the table shows it."""
        return f"{self.sign} {self.bound:g} {self.unit}".strip()


def at_least(bound: float, unit: str = "x") -> Goal:
    """Return the goal of a ratio, larger is better."""
    return Goal("≥", bound, unit)


def at_most(bound: float, unit: str = "x") -> Goal:
    """Return the goal of a cost, smaller is better."""
    return Goal("≤", bound, unit)


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    against: str  # empty where the goal is absolute
    value: float | None  # None: could not be measured here
    goal: Goal

    @property
    def met(self) -> bool:
        """Whether it was measured and keeps its goal."""
        return self.value is not None and self.goal.met_by(self.value)

    @property
    def measured(self) -> str:
        """The value as the table shows it."""
        return (
            "not measured" if self.value is None else f"{self.value:.3g} {self.goal.unit}".strip()
        )


@dataclass(frozen=True)
class Outcome:
    """What a job returns."""

    figures: Sequence[Figure]
    details: Mapping[str, Any] = field(default_factory=dict)  # sizes, seconds: how it came about
    packages: Sequence[str] = ()  # whose versions matter
    files: Mapping[str, bytes] = field(default_factory=dict)  # to keep beside the table


def record(job: str, outcome: Outcome, scale: float, cores: int, folder: Path) -> None:
    """Put the outcome of `job` into results.json of `folder`, and write results.md anew.

    The file keeps what other runs say of other jobs.
    """
    path = folder / "results.json"
    jobs = read_json(path) if path.is_file() else {}
    jobs[job] = {
        "cores": cores,
        "details": outcome.details,
        "figures": [
            {
                "against": figure.against,
                "goal": str(figure.goal),
                "measured": figure.measured,
                "met": figure.met,
                "value": figure.value,
                "what": figure.what,
            }
            for figure in outcome.figures
        ],
        "packages": {name: _version(name) for name in outcome.packages},
        "scale": scale,
    }
    write_json(jobs, path)
    for name, content in outcome.files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    with replacing(folder / "results.md") as temporary:
        temporary.write_text(_table(read_json(path)), encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _table(jobs: Mapping[str, Any]) -> str:
    lines = [
        f"| {job} | {figure['what']} | {figure['against']} | {figure['goal']} "
        f"| {figure['measured']} | {'yes' if figure['met'] else '**no**'} |\n"
        for job, outcome in sorted(jobs.items())
        for figure in outcome["figures"]
    ]
    return _HEAD + "".join(lines)
