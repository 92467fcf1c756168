"""Stage `predict`: a detector and the images of val and test -> a logit and a distance each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from accelerate import Accelerator
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import FloatArray, IntArray
from src.core.cli import InputError, parse_paths, run
from src.core.hashing import image_keys, ranks
from src.core.params import STRICT, load_params
from src.core.tables import read_table, write_table
from src.dataset.columns import SPLIT_TABLE
from src.images.crops import GridCrops
from src.images.loader import ImageSet
from src.inference.embedder import embed
from src.inference.knn_distance import (
    KnnIndex,
    nearest,
    ood_distances,
    save_knn_index,
    to_unit_length,
)
from src.inference.predictions import NEIGHBOURS, PREDICTIONS
from src.inference.scorer import prepare_torch
from src.models.shared.detector import Detector, load_detector
from src.probes.appearance import appearances

ARGUMENTS = "--splits --raw --weights --config --predictions --neighbours --knn-index"


@dataclass(frozen=True, config=STRICT)
class PredictParams:
    """Section `predict` of params.yaml."""

    crops_per_side: Annotated[int, Field(gt=0, le=16)]  # see images.GridCrops
    batch_size: Annotated[int, Field(gt=0, le=2**16)]  # images; bounds the memory
    threads: Annotated[int, Field(gt=0, le=256)]  # of the CPU, for a part of a batch: see Embedder
    knn_images: Annotated[int, Field(gt=0, le=10**6)]  # of train, that an image is compared with
    knn_neighbours: Annotated[int, Field(gt=0, le=10**6)]  # the nearest that count
    seed: Annotated[int, Field(ge=0, lt=2**64)]  # which training images


class Predictions(NamedTuple):
    """What the stage writes."""

    table: pd.DataFrame  # PREDICTIONS
    neighbours: pd.DataFrame  # NEIGHBOURS
    knn_index: KnnIndex


def predict(
    splits: pd.DataFrame,
    root: Path,
    detector: Detector,
    params: PredictParams,
    accelerator: Accelerator,
) -> Predictions:
    """Return what `detector` says of the images of `splits` that it was not trained on.

    Raises:
        InputError: fewer training images than neighbours.
    """
    known = draw_knn_images(splits, params)
    unseen = splits[splits["split"] != "train"].reset_index(drop=True)
    crops = GridCrops(detector.config.view, params.crops_per_side)
    of_known, of_unseen = (
        embed(
            detector,
            ImageSet(table, root, crops, detector.blueprint.preprocess),
            params.batch_size,
            accelerator,
            name,
        )
        for table, name in ((known, "kNN index"), (unseen, "predict"))
    )
    index = KnnIndex(
        to_unit_length(of_known.features).astype(np.float16),
        params.crops_per_side,
        params.knn_neighbours,
        appearances(known, root, "appearance, kNN index"),
    )
    distances, positions = nearest(index, of_unseen.features)
    far = ood_distances(index, appearances(unseen, root, "appearance"))
    table = unseen.assign(logit=of_unseen.logits, distance=far)
    names = neighbour_table(unseen["image_id"], known["image_id"], distances, positions)
    return Predictions(table, names, index)


def draw_knn_images(splits: pd.DataFrame, params: PredictParams) -> pd.DataFrame:
    """Return the rows of train with the `knn_images` smallest ranks.

    Raises:
        InputError: there are fewer than `knn_neighbours`.
    """
    train = splits[splits["split"] == "train"].reset_index(drop=True)
    order = np.argsort(ranks(image_keys(train["image_id"]), params.seed))
    drawn = train.iloc[order[: params.knn_images]].reset_index(drop=True)
    if len(drawn) < params.knn_neighbours:
        raise InputError(
            f"predict.knn_neighbours = {params.knn_neighbours}: there are only {len(drawn)} images "
            f"of split 'train' to compare with (predict.knn_images = {params.knn_images})"
        )
    return drawn


def neighbour_table(
    images: "pd.Series[str]", known: "pd.Series[str]", distances: FloatArray, positions: IntArray
) -> pd.DataFrame:
    """Return one row per image and neighbour; distances and positions are those of `nearest`."""
    count = positions.shape[1]
    return pd.DataFrame(
        {
            "image": images.to_numpy().repeat(count),
            "position": np.tile(np.arange(1, count + 1), len(images)),
            "neighbour": known.to_numpy()[positions.ravel()],
            "distance": distances.ravel(),
        }
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Score the images that were not trained on."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(PredictParams, "predict")
    splits = read_table(args.splits, SPLIT_TABLE)
    prepare_torch(params.threads)
    accelerator = Accelerator()
    detector = load_detector(args.weights, args.config)
    predictions = predict(splits, args.raw, detector, params, accelerator)
    if accelerator.is_main_process:
        write_table(predictions.table, args.predictions, PREDICTIONS)
        write_table(predictions.neighbours, args.neighbours, NEIGHBOURS)
        save_knn_index(predictions.knn_index, args.knn_index)


if __name__ == "__main__":
    run(main)
