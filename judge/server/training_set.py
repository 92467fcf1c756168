"""The pictures that the detector was trained on, where the data are there: who resembles whom."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from judge.judging import Judge
from src.core.cli import InputError
from src.core.hashing import image_keys, ranks
from src.core.tables import LABELS, read_table
from src.dataset.columns import SPLIT_TABLE
from src.images.shards import ShardReader

logger = logging.getLogger(__name__)

_SAME = 0.05  # distance of a picture from itself: the index has half precision
_SEEDS = range(100)  # that are tried to find the draw of the index again


class TrainingSet:
    """The images of a kNN index, by their position in it."""

    def __init__(self, splits: Path, raw: Path, judge: Judge) -> None:
        """Find out which images of `splits` the index of `judge` was made of.

        Raises:
            InputError: it was made of others, or the files are not what `dvc pull` brings.
        """
        table = read_table(splits, SPLIT_TABLE)
        train = table[table["split"] == "train"].reset_index(drop=True)
        self._reader = ShardReader(raw)
        keys = image_keys(train["image_id"])
        for seed in _SEEDS:
            order = np.argsort(ranks(keys, seed))[: len(judge.index.features)]
            self._rows = train.iloc[order].to_dict("records")
            (distance, position), *_ = judge.look(self.image(0))[1]
            if position == 0 and distance < _SAME:
                return
        raise InputError(f"{splits}: the detector was trained on other images")

    def image(self, position: int) -> bytes:
        """Return the file of an image."""
        row = self._rows[position]
        return self._reader.read(row["shard"], row["offset"], row["length"])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def describe(self, position: int) -> dict[str, Any]:
        """Return label, method and address of an image."""
        row = self._rows[position]
        return {
            "label": LABELS[row["label"]],
            "method": row["method"],
            "image": f"/api/training/{position}",
        }


def find_training_set(root: Path, judge: Judge) -> TrainingSet | None:
    """Return the training images in the repository `root`; None, and why in the log, without."""
    splits, raw = root / "data/splits.csv", root / "data/raw"
    try:
        return TrainingSet(splits, raw, judge)
    except (InputError, OSError) as error:
        logger.info("no training pictures beside the verdicts: %s", error)
        return None
