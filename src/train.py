"""Stage `train`: splits and shards -> the detector of the epoch that validated best."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict

from src.core import processor
from src.core.cli import InputError, parse_paths, run
from src.core.params import load_params
from src.core.tables import read_table
from src.dataset.columns import SPLIT_TABLE
from src.models.shared.blueprint import ModelParams
from src.models.shared.pretrained import load_weights
from src.training.augmentation import AugmentParams
from src.training.checkpoints import arithmetic, code_files, fingerprint, scratch_folder
from src.training.config import TrainParams
from src.training.launch import launch_processes, run_shares
from src.training.outputs import Outputs
from src.training.run import train_detector
from src.training.setup import Settings

logger = logging.getLogger(__name__)

ARGUMENTS = "splits_csv raw gate start weights config metrics curve picture"
MANIFEST = "manifest.json"  # of data/raw: the checksums of all shards


def read_settings() -> Settings:
    """Return the sections of params.yaml.

    Raises:
        InputError: one is not as expected.
    """
    return Settings(
        load_params(ModelParams, "model"),
        load_params(TrainParams, "train"),
        load_params(AugmentParams, "augment"),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train the detector that params.yaml describes."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    settings = read_settings()
    if not args.gate.is_file():
        raise InputError(f"{args.gate} is missing: the stage 'shortcuts' has not passed these data")
    table = read_table(args.splits_csv, SPLIT_TABLE)
    inputs = [args.splits_csv, args.raw / MANIFEST, args.start, *code_files(settings.model.name)]
    parameters = [*(asdict(section) for section in settings), arithmetic()]
    scratch = scratch_folder() / fingerprint(parameters, inputs)
    outputs = Outputs(*(getattr(args, name) for name in Outputs._fields))
    weights = load_weights(args.start, "weights")
    train_detector(table, args.raw, weights, settings, outputs, scratch)


def launch() -> None:
    """Train in as many processes as the settings or the environment ask for (training.launch)."""
    params = read_settings().train  # what is wrong there is said once, not by every process
    if not params.exact and processor.is_asked_for():
        processor.restart_without("src.train", sys.argv[1:])
    if params.exact and not processor.is_asked_for():
        logger.warning(
            "%s=0 in the environment: train.exact: true has no effect, bits will differ from those "
            "of other machines, and figures agree within their intervals",
            processor.EXACT_VARIABLE,
        )
    launch_processes("src.train", sys.argv[1:])
    run_shares(main, params.shares)


if __name__ == "__main__":
    run(launch)
