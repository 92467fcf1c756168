"""Parameter classes -> params.schema.json, by which every stage checks the sections of all others.

The classes live in the modules that use them, and to import them all takes seconds of torch. The
schema takes none, and editors check params.yaml by it too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from src.calibrate import CalibrateParams
from src.core.cli import run
from src.core.files import write_json
from src.core.params import SCHEMA_JSON
from src.download import DownloadParams
from src.evaluation.results import EvaluateParams
from src.gallery import GalleryParams
from src.metadata import MetadataParams
from src.models.shared.blueprint import ModelParams
from src.predict import PredictParams
from src.shortcuts import ShortcutsParams
from src.splitting.assignment import SplitParams
from src.training.augmentation import AugmentParams
from src.training.config import TrainParams

SECTIONS = {
    "download": DownloadParams,
    "metadata": MetadataParams,
    "split": SplitParams,
    "shortcuts": ShortcutsParams,
    "model": ModelParams,
    "train": TrainParams,
    "augment": AugmentParams,
    "predict": PredictParams,
    "calibrate": CalibrateParams,
    "evaluate": EvaluateParams,
    "gallery": GalleryParams,
}


def schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            name: TypeAdapter(params).json_schema() for name, params in SECTIONS.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the schema."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=SCHEMA_JSON)
    write_json(schema(), parser.parse_args(argv).to)


if __name__ == "__main__":
    run(main)
