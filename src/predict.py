"""Stage `predict`: a detector and the images of val and test -> one score per image."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from accelerate import Accelerator
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from src.command import run
from src.images import GridCrops, ImageSet, default_workers
from src.models import Detector, load_detector
from src.params import STRICT, load_params
from src.schema import PREDICTIONS, SPLIT_TABLE, read_table, write_table
from src.scoring import Scorer, fake_logit, fix_arithmetic

_DIGITS = 6  # of a logit: what lies below is noise of the hardware


@dataclass(frozen=True, config=STRICT)
class PredictParams:
    """Section `predict` of params.yaml."""

    crops_per_side: Annotated[int, Field(gt=0)]  # see images.GridCrops
    batch_size: Annotated[int, Field(gt=0)]  # images; bounds the memory
    threads: Annotated[int, Field(gt=0)]  # of the CPU: their number changes the last bits


def predict(
    table: pd.DataFrame,
    root: Path,
    detector: Detector,
    params: PredictParams,
    accelerator: Accelerator,
) -> pd.DataFrame:
    """Return `table` with `logit` (log odds of fake) and `score` (P(fake) in [0, 1])."""
    crops = GridCrops(detector.identity.view, params.crops_per_side)
    images = ImageSet(table, root, crops, detector.blueprint.represent)
    score = Scorer(images, params.batch_size, accelerator, default_workers())
    logits = fake_logit(score(detector.to(accelerator.device)).double()).numpy().round(_DIGITS)
    return table.assign(logit=logits, score=expit(logits))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the paths on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("splits_csv", "raw", "weights", "identity", "predictions_csv"):
        parser.add_argument(name, type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Score the images that were not trained on."""
    args = parse_args(argv)
    params = load_params(PredictParams, "predict")
    splits = read_table(args.splits_csv, SPLIT_TABLE)
    fix_arithmetic(params.threads)
    accelerator = Accelerator()
    detector = load_detector(args.weights, args.identity)
    unseen = splits[splits["split"] != "train"].reset_index(drop=True)
    predictions = predict(unseen, args.raw, detector, params, accelerator)
    if accelerator.is_main_process:
        write_table(predictions, args.predictions_csv, PREDICTIONS)


if __name__ == "__main__":
    run(main)
