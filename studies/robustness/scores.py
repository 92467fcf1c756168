"""Detector and test images -> the logit of every image in every condition; each is decoded once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm import tqdm

from src.core.cli import InputError, parse_paths, run
from src.core.hashing import image_keys, ranks
from src.core.params import load_params
from src.core.tables import read_table, write_table
from src.dataset.columns import SPLIT_TABLE
from src.images.crops import Crops, GridCrops
from src.images.decode import RGBImage
from src.images.loader import BatchLoader, ImageSet, consecutive, default_workers
from src.inference.embedder import Embedder
from src.inference.knn_distance import load_knn_index
from src.inference.scorer import prepare_torch
from src.models.shared.detector import Detector, load_detector
from src.models.shared.log_odds import fake_logit
from studies.robustness.conditions import (
    CLEAN,
    PARAMS,
    Condition,
    RobustnessParams,
    conditions,
    logits_schema,
)
from studies.robustness.corruptions import corrupt

ARGUMENTS = "splits_csv raw weights config knn_index logits_csv"
_DIGITS = 6  # of a logit, as in predictions.csv


class Versions:
    """Renders an image as it is and in every condition: all that is done with one decoding."""

    def __init__(self, grid: GridCrops, wanted: Sequence[Condition], seed: int) -> None:
        """Take the crops of `grid` from every version."""
        self.grid = grid
        self.wanted = wanted
        self.seed = seed

    def __call__(self, image: RGBImage, epoch: int, key: int) -> Crops:  # noqa: ARG002 - a Render
        """Return the crops of the untouched image, then those of each condition."""
        versions = [self.grid(image)]
        for corruption, level in self.wanted:
            versions.append(self.grid(corrupt(image, corruption, level, key, self.seed)))
        return np.concatenate(versions)


def scores(
    table: pd.DataFrame,
    root: Path,
    detector: Detector,
    crops_per_side: int,
    params: RobustnessParams,
) -> pd.DataFrame:
    """Return image_id, method, group, label and a logit per condition for each row of `table`.

    Logits are the log odds of fake, the mean over `crops_per_side` crops along each side: as many
    as the stage `predict` takes, or the frozen threshold means nothing.
    """
    wanted = conditions(params)
    grid = GridCrops(detector.config.view, crops_per_side)
    versions = Versions(grid, wanted, params.seed)
    images = ImageSet(table, root, versions, detector.blueprint.preprocess)
    detect = Embedder(detector.to(Accelerator().device).eval()).logits
    # One image at a time: it already makes a batch of crops, many of them.
    loader = BatchLoader(images, consecutive(len(images), 1), 1, default_workers())
    logits = []
    for batch, _ in tqdm(loader, desc="robustness", unit=" images"):
        parts = [detect(part.numpy()) for part in torch.split(batch, params.batch_size)]
        crops = torch.from_numpy(np.concatenate(parts))
        by_version = crops.view(1 + len(wanted), -1, crops.shape[1]).mean(1)
        logits.append(fake_logit(by_version.numpy()).round(_DIGITS))
    columns = (CLEAN, *(condition.column for condition in wanted))
    known = table[["image_id", "method", "group", "label"]].reset_index(drop=True)
    return known.join(pd.DataFrame(np.stack(logits), columns=columns))


def drawn(test: pd.DataFrame, params: RobustnessParams) -> pd.DataFrame:
    """Return at most `max_images` rows of `test`, the same ones whatever their order."""
    # Keys of its own: by the ranks of the images under this very seed the split has put them into
    # test, each method from another part of the ranks, and the smallest would be of one method.
    order = np.argsort(ranks(image_keys("robustness " + test["image_id"]), params.seed))
    return test.iloc[np.sort(order[: params.max_images])].reset_index(drop=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Score the test images in every condition."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(RobustnessParams, "robustness", PARAMS)
    splits = read_table(args.splits_csv, SPLIT_TABLE)
    test = drawn(splits[splits["split"] == "test"], params)
    if test.empty:
        raise InputError(f"{args.splits_csv} has no test image")
    prepare_torch(params.threads)
    detector = load_detector(args.weights, args.config)
    crops_per_side = load_knn_index(args.knn_index).crops_per_side
    table = scores(test, args.raw, detector, crops_per_side, params)
    write_table(table, args.logits_csv, logits_schema(params))


if __name__ == "__main__":
    run(main)
