"""models/detector.onnx.json: what judging takes beside the network in detector.onnx."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from src.core.cli import InputError
from src.core.files import replacing
from src.core.params import STRICT
from src.evaluation.calibration import Calibration
from src.images.crops import View

EXPORT_AGAIN = "run `dvc repro export`, or fetch all of the folder with `dvc pull`"


@dataclass(frozen=True, config=STRICT)
class Exported:
    """What `detector.onnx` is, and how to feed it.

    It takes `crops`, uint8 (B, size, size, 3), and gives `logits` (B, classes) and `features`
    (B, width), float32. Normalisation is inside.
    """

    name: str  # of the detector
    trained_on: str  # see training_data.py
    classes: tuple[str, ...]  # of the logits; the first is "real"
    view: View
    crops_per_side: int  # a grid of crops, whose logits are averaged
    mean: tuple[float, float, float]  # that the network subtracts, R, G, B in [0, 1]
    std: tuple[float, float, float]  # and divides by
    calibration: Calibration
    weights_sha256: str  # of detector.safetensors, which it was made from
    obstacle: str  # why detector.onnx is empty; "" where it is not


def save_exported(exported: Exported, path: Path) -> None:
    """Write `exported`, which `load_exported` reads, to the last digit."""
    document = TypeAdapter(Exported).dump_python(exported, mode="json")
    with replacing(path) as temporary:
        text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_exported(path: Path) -> Exported:
    """Return what `save_exported` wrote to `path`.

    Raises:
        InputError: it is damaged, or not one of ours.
    """
    try:
        return TypeAdapter(Exported).validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(
            f"{path} describes no detector: {where}: {fault['msg']}; {EXPORT_AGAIN}"
        ) from error
