"""What the stage `evaluate` wrote -> the threshold that was frozen on validation."""

from pathlib import Path

from src.command import InputError
from src.files import read_json


def read_threshold(evaluate_json: Path) -> float:
    """Return the frozen threshold: a score at or above it means fake.

    Raises:
        InputError: the file holds none.
    """
    try:
        return float(read_json(evaluate_json)["threshold"])
    except KeyError as error:
        raise InputError(f"{evaluate_json} holds no threshold; run the stage evaluate") from error
