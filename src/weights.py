"""Stage `weights`: model.weights -> one file that DVC keeps, so that training needs no network."""

from collections.abc import Sequence

from src.core.cli import parse_paths, run
from src.core.params import load_params
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import published_weights
from src.models.shared.pretrained import save_weights

ARGUMENTS = "safetensors"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the weights that training starts from, as published; without any, an empty file."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    weights = published_weights(load_params(ModelParams, "model"))
    contiguous = {name: value.contiguous().clone() for name, value in weights.items()}
    save_weights(contiguous, args.safetensors)


if __name__ == "__main__":
    run(main)
