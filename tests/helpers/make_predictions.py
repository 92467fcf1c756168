"""Predictions of a detector that never was, and the images they are about."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from src.core.hashing import image_key
from src.core.tables import FAKE, REAL, write_table
from src.dataset.columns import METADATA, SPLIT_TABLE
from src.evaluation.calibration import Calibration, save_calibration
from src.evaluation.results import EvaluateParams
from src.evaluation.slices import MEASURES
from src.images.shards import write_shard
from src.inference.predictions import PREDICTIONS
from tests.helpers.make_data import encode, make_image

# (method, family, label) -> how well it is told apart; cycle_gan holds both classes.
METHODS = {
    ("coco", "real", REAL): 1.0,
    ("ffhq", "real", REAL): 2.0,
    ("cycle_gan", "real", REAL): 1.5,
    ("cycle_gan", "gan", FAKE): 1.5,
    ("stylegan2", "gan", FAKE): 2.0,
    ("lama", "other", FAKE): 0.4,
}
IMAGES_PER_GROUP = 2
CALIBRATION = Calibration(temperature=0.8, threshold=0.45, ood_distance=0.9)

EVALUATE = EvaluateParams(
    bootstrap_rounds=199,
    confidence=0.95,
    calibration_bins=10,
    min_groups=5,
    worst_images=3,
    seed=0,
)


def make_predictions(images_per_method: int, seed: int, strength: float = 1.0) -> pd.DataFrame:
    """Return `images_per_method` predictions of each method and class in both val and test."""
    generator = np.random.default_rng(seed)
    tables = []
    for split in ("val", "test"):
        for (method, family, label), margin in METHODS.items():
            centre = strength * margin * (1 if label == FAKE else -1)
            logits = generator.normal(centre, 1.2, images_per_method)
            names = [f"{split}{label}{number}" for number in range(images_per_method)]
            groups = [
                f"{split}/{number // IMAGES_PER_GROUP}" for number in range(images_per_method)
            ]
            columns = {
                "image_id": [f"{method}/{name}.jpg" for name in names],
                "group": [f"{method}/{group}" for group in groups],
                "logit": logits,
                "distance": generator.random(images_per_method),
            }
            same = {"split": split, "label": label, "method": method, "family": family}
            tables.append(pd.DataFrame({**columns, **same, "category": ""}))
    return pd.concat(tables, ignore_index=True)[list(PREDICTIONS)]


def scored(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `predictions` with `score`, as a calibration that changes nothing gives it."""
    return predictions.assign(score=expit(predictions["logit"]))


def make_measures(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return what metadata says of light, sharpness, quality and size; dark fakes pass for real."""
    generator = np.random.default_rng(0)
    count = len(predictions)
    return pd.DataFrame(
        {
            "image_id": predictions["image_id"],
            "brightness": 0.5 + 0.1 * predictions["logit"].clip(-5, 5) / 5,
            "sharpness": generator.gamma(2, 100, count),
            "jpeg_quality": generator.choice([75, 90], count),
            "width": 200,
            "height": 200,
        }
    )


def write_evaluation_inputs(folder: Path, predictions: pd.DataFrame) -> None:
    """Write all that the stage `evaluate` reads of a project into `folder`."""
    raw = folder / "data/raw"
    raw.mkdir(parents=True, exist_ok=True)
    members = [
        (f"{image_key(image_id):016x}.jpg", encode(make_image(number, fake=label == FAKE)))
        for number, (image_id, label) in enumerate(
            zip(predictions["image_id"], predictions["label"], strict=True)
        )
    ]
    places = write_shard(raw / "all-00000.tar", members)
    splits = predictions.assign(
        shard="all-00000.tar",
        offset=[offset for offset, _ in places],
        length=[length for _, length in places],
    )
    write_table(splits, folder / "data/splits.csv", SPLIT_TABLE)
    columns = {
        name: pa_type for name, pa_type in METADATA.items() if name in ("image_id", *MEASURES)
    }
    write_table(make_measures(predictions), folder / "data/metadata.csv", columns)
    write_table(predictions, folder / "data/predictions.csv", PREDICTIONS)
    save_calibration(CALIBRATION, folder / "models/calibration.json")
