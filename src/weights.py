"""Stage `weights`: model.weights -> one file that DVC keeps, so that training needs no network."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.core.cli import run
from src.core.params import load_params
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import published_weights
from src.models.shared.pretrained import save_weights


def main(argv: Sequence[str] | None = None) -> None:
    """Write the weights that training starts from, as published; without any, an empty file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("safetensors", type=Path)
    args = parser.parse_args(argv)
    weights = published_weights(load_params(ModelParams, "model"))
    contiguous = {name: value.contiguous().clone() for name, value in weights.items()}
    save_weights(contiguous, args.safetensors)


if __name__ == "__main__":
    run(main)
