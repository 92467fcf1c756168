"""What a check of `make doctor` says: one line."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad: FAIL stops something that everybody needs, WARN something that some need."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """`found` was found where `what` was looked at; `advice` is the cure, and is "" for OK."""

    level: Level
    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        """Return the line that the user reads."""
        line = f"{self.level.value:<4}  {self.what}: {self.found}"
        return f"{line}; {self.advice}" if self.advice else line


class Stopped(Exception):  # noqa: N818 - no error, the end of a chain of checks
    """Carries the finding that makes the next checks pointless."""

    def __init__(self, finding: Finding) -> None:
        """Keep `finding`, and let its line be what is said."""
        super().__init__(str(finding))
        self.finding = finding


def ok(what: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(Level.OK, what, found)


def warn(what: str, found: str, advice: str) -> Finding:
    """Return that something works less than it could."""
    return Finding(Level.WARN, what, found, advice)


def fail(what: str, found: str, advice: str) -> Finding:
    """Return that something does not work."""
    return Finding(Level.FAIL, what, found, advice)
