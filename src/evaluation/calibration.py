"""models/calibration.json: what validation decided, and how a logit becomes a probability."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from scipy.special import expit

from src.core.arrays import FloatArray, IntArray
from src.core.cli import InputError
from src.core.files import replacing
from src.core.params import STRICT
from src.core.tables import FAKE
from src.evaluation.ranking import dot

LARGEST_LOGIT = 1e6  # beyond it a detector says nothing but that its training diverged

VERDICTS = ("real", "unsure", "fake")
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class Calibration:
    """What stands between a detector's logit and a verdict."""

    temperature: Annotated[float, Field(gt=0)]  # divides the logit; 1 leaves it alone
    threshold: Annotated[float, Field(ge=0, le=1)]  # P(fake) from which an image is called fake
    ood_distance: Annotated[float, Field(ge=0)]  # above it an image is out of distribution
    # Ends of P(fake) around the threshold: below the first an image is called real, from the second
    # on fake, between them neither. None: there is no such band.
    unsure: tuple[Fraction, Fraction] | None = None

    def probability(self, logits: FloatArray) -> FloatArray:
        """Return P(fake), in [0, 1], of log odds of any shape; it ranks as they do."""
        scores: FloatArray = expit(logits / self.temperature)
        return scores

    def verdicts(self, scores: FloatArray) -> list[str]:
        """Return "real", "unsure" or "fake" for each of `scores`, probabilities of shape (n,)."""
        return [VERDICTS[number] for number in np.searchsorted(self.ends, scores, side="right")]

    @property
    def ends(self) -> tuple[float, float]:
        """P(fake) below which an image is called real, and from which on it is called fake."""
        return self.unsure or (self.threshold, self.threshold)

    def selective(
        self, labels: IntArray, scores: FloatArray, weights: FloatArray
    ) -> tuple[float, float]:
        """Return the share of images with a verdict, and the share of these that it is right for.

        Arrays have shape (n,); the second share is 0 where no image has a verdict.
        """
        low, high = self.ends
        judged, is_fake = (scores < low) | (scores >= high), scores >= high
        right = judged & (is_fake == (labels == FAKE))
        count, correct = (dot(weights, chosen.astype(np.float64)) for chosen in (judged, right))
        return count / float(weights.sum()), correct / count if count else 0.0


def check_logits(predictions: pd.DataFrame) -> None:
    """Check the column `logit` of `predictions`.

    Raises:
        InputError: one is not a number, or beyond LARGEST_LOGIT.
    """
    wrong = predictions[~(predictions["logit"].abs() <= LARGEST_LOGIT)]
    if len(wrong):
        row = wrong.iloc[0]
        raise InputError(
            f"the logit of {row['image_id']} is {row['logit']:g}, expected a number between "
            f"{-LARGEST_LOGIT:g} and {LARGEST_LOGIT:g}: the detector is of no use; train it again "
            "with a lower train.learning_rate"
        )


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write `calibration`, which `load_calibration` reads, to the last digit.

    Rounded, as metrics are, a threshold would part other images than the one that was chosen.
    """
    document = TypeAdapter(Calibration).dump_python(calibration, mode="json")
    with replacing(path) as temporary:
        text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_calibration(path: Path) -> Calibration:
    """Return the calibration at `path`.

    Raises:
        InputError: it is not one of ours.
    """
    return parse_calibration(path.read_bytes(), str(path))


def parse_calibration(content: bytes, name: str) -> Calibration:
    """Return the calibration in the bytes of a file; `name` is for the error.

    Raises:
        InputError: it is not one of ours.
    """
    try:
        return TypeAdapter(Calibration).validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{name} is no calibration: {where}: {fault['msg']}") from error
