"""The parameters of training -> an untrained detector and its data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from src.core.hashing import ranks
from src.core.tables import FAKE, LABELS, REAL, require_both_classes
from src.images.crops import GridCrops
from src.images.loader import ImageSet, Request
from src.images.pixel_cache import PixelCache
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import Detector, build_detector
from src.models.shared.pretrained import StateDict
from src.training.augmentation import Augmentation, AugmentParams
from src.training.config import TrainingData, TrainParams
from src.training.sampler import balanced_strata

_START_IMAGES = 512  # with some hundred patches each: plenty for one covariance


class Settings(NamedTuple):
    """The sections of params.yaml that a detector depends on."""

    model: ModelParams
    train: TrainParams
    augment: AugmentParams


def check_classes(table: pd.DataFrame) -> None:
    """Check that there is something to learn and something to choose the epoch by.

    Raises:
        InputError: `train` or `val` has no image of one class.
    """
    for split in ("train", "val"):
        where = f"split {split!r} (section 'split': val_fraction, images_per_class)"
        require_both_classes(table.loc[table["split"] == split, "label"], where)


def prepare(
    table: pd.DataFrame,
    root: Path,
    settings: Settings,
    weights: StateDict | None = None,
    kept: PixelCache | None = None,
) -> tuple[Detector, TrainingData]:
    """Return the untrained detector and the images for it, their pixels in `kept` if given."""
    model, params = settings.model, settings.train
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    detector = build_detector(model, class_names(train, params.head), params.seed, weights)
    view, preprocess = detector.config.view, detector.blueprint.preprocess
    if model.from_scratch:
        plain = ImageSet(train, root, GridCrops(view, 1), preprocess)
        detector.init_weights(_some_images(plain, params.seed), params.seed)
    data = TrainingData(
        ImageSet(train, root, Augmentation(settings.augment, view, params.seed), preprocess, kept),
        class_targets(train, detector.config.classes),
        balanced_strata(train, params.sampling),
        ImageSet(val, root, GridCrops(view, params.val_crops_per_side), preprocess, kept),
        val["label"].to_numpy(),
    )
    return detector, data


def class_names(table: pd.DataFrame, head: str) -> tuple[str, ...]:
    """Return the names of a detector's logits: real, then fake or every generator of `table`."""
    if head == "binary":
        return LABELS[REAL], LABELS[FAKE]
    return LABELS[REAL], *sorted(table.loc[table["label"] == FAKE, "method"].unique())


def class_targets(table: pd.DataFrame, classes: Sequence[str]) -> Tensor:
    """Return the position in `classes` of each image of `table`, shape (images,), int64."""
    names = table["label"].map(LABELS)
    if not set(names) <= set(classes):  # one class per generator
        names = table["method"].where(table["label"] == FAKE, LABELS[REAL])
    positions = {name: position for position, name in enumerate(classes)}
    return torch.tensor([positions[name] for name in names])


def _some_images(images: ImageSet, seed: int) -> Tensor:
    rows = np.argsort(ranks(images.keys, seed), kind="stable")[:_START_IMAGES]
    return images.batch(Request(0, rows.tolist())).images
