"""How often the detector is right about pictures of a size and compression, by the test set."""

import csv
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

_MEASURES = {"size": "shorter side", "jpeg_quality": "JPEG quality"}
_RANGE = re.compile(r"up to (?P<high>\S+)|above (?P<low>\S+)|(?P<from>\S+) to (?P<to>\S+)")


class Slice(NamedTuple):
    """Test images of one class within some limits."""

    by: str
    value: str  # in words
    label: str
    correct: float  # share that is called right
    correct_low: float  # and its interval
    correct_high: float
    low: float
    high: float


def read_slices(path: Path) -> list[Slice]:
    """Return the slices by size and compression in slices.csv; none where `evaluate` never ran."""
    if not path.is_file():
        logger.info("%s is missing: pages say nothing of sizes and compressions", path)
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [_slice(row) for row in rows if row["by"].replace(" ", "_") in _MEASURES]


def _slice(row: dict[str, str]) -> Slice:
    found = _RANGE.fullmatch(row["value"])
    limits = found.groupdict() if found else {}
    low = float(limits.get("low") or limits.get("from") or "-inf")
    high = float(limits.get("high") or limits.get("to") or "inf")
    return Slice(
        row["by"].replace(" ", "_"),
        row["value"],
        row["label"],
        float(row["correct"]),
        float(row["correct_low"]),
        float(row["correct_high"]),
        low,
        high,
    )


def conditions(slices: list[Slice], size: int, quality: int) -> list[dict[str, Any]]:
    """Return what is known of pictures whose shorter side and JPEG quality are these."""
    measured = {"size": size, "jpeg_quality": quality}
    return [
        {
            "measure": _MEASURES[each.by],
            "value": each.value,
            "label": each.label,
            "correct": each.correct,
            "low": each.correct_low,
            "high": each.correct_high,
        }
        for each in slices
        if each.low < measured[each.by] <= each.high
    ]
