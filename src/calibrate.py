"""Stage `calibrate`: the predictions of validation -> temperature, threshold, ood_distance."""

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.optimize import minimize_scalar
from scipy.special import expit

from src.core.arrays import FloatArray, IntArray
from src.core.cli import InputError, run
from src.core.files import write_json
from src.core.params import STRICT, load_params
from src.core.tables import FAKE, REAL, read_table, require_both_classes
from src.evaluation.calibration import Calibration, check_logits, save_calibration
from src.evaluation.confusion import best_threshold
from src.evaluation.intervals import Rounds, bootstrap_intervals
from src.evaluation.ranking import Ranking, dot
from src.inference.predictions import PREDICTIONS

logger = logging.getLogger(__name__)


_TEMPERATURES = 1e-3, 1e3  # beyond them the scores say all or nothing
# The last bits of a float differ between processors; six digits are those of the metrics.
_DIGITS = 6


@dataclass(frozen=True, config=STRICT)
class CalibrateParams:
    """Section `calibrate` of params.yaml."""

    ood_quantile: Annotated[float, Field(gt=0, lt=1)]  # of validation's distances is ood_distance
    bootstrap_rounds: Rounds  # for the interval of the temperature
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def calibrate(
    validation: pd.DataFrame, params: CalibrateParams
) -> tuple[Calibration, dict[str, float]]:
    """Return all that is decided on `validation`, rows of predictions, and what it does to them.

    Raises:
        InputError: a class is missing, a logit is no number, or no threshold separates the scores.
    """
    _check(validation)
    labels, logits = validation["label"].to_numpy(), validation["logit"].to_numpy()
    temperature = _rounded(fit_temperature(labels, logits))
    if temperature >= _TEMPERATURES[1] / 2:
        logger.warning("temperature %g: on validation the logits say nothing", temperature)
    scores = expit(logits / temperature)
    _check_saturation(logits, scores)
    best = best_threshold(Ranking(labels, scores).curve())
    calibration = Calibration(
        temperature=temperature,
        threshold=_shortened(best, scores),
        # Source: Sun et al. 2022 (see knn_distance.py), which keep 95 % of validation, too.
        ood_distance=_rounded(np.quantile(validation["distance"], params.ood_quantile)),
    )
    ends = bootstrap_intervals(
        lambda weights: {"temperature": fit_temperature(labels, logits, weights)},
        validation["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )["temperature"]
    return calibration, {
        "temperature": temperature,
        "temperature_low": float(ends.low),
        "temperature_high": float(ends.high),
        "threshold": calibration.threshold,
        "ood_distance": calibration.ood_distance,
        "val_loss_before": log_loss(labels, logits),
        "val_loss_after": log_loss(labels, logits / temperature),
    }


def _rounded(value: float, digits: int = _DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _shortened(threshold: float, scores: FloatArray) -> float:
    """Return `threshold` in as few digits, six or more, as part `scores` where it does."""
    verdicts = scores >= threshold
    candidates = (_rounded(threshold, digits) for digits in range(_DIGITS, 17))
    return next((c for c in candidates if ((scores >= c) == verdicts).all()), threshold)


def fit_temperature(
    labels: IntArray, logits: FloatArray, weights: FloatArray | None = None
) -> float:
    """Return the temperature: `logits / temperature`, shape (n,), are calibrated log odds of fake.

    It minimises the log loss on targets that are not quite 0 and 1, without which validation
    images that are separated without an error would need a temperature of 0.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2; the targets
    of Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.1.
    """
    counts = np.ones(len(logits)) if weights is None else weights
    fakes, reals = dot(counts, labels == FAKE), dot(counts, labels == REAL)
    targets = np.where(labels == FAKE, (fakes + 1) / (fakes + 2), 1 / (reals + 2))

    def loss(log_temperature: float) -> float:
        scaled = logits * math.exp(-log_temperature)
        return dot(counts, np.logaddexp(0, scaled) - targets * scaled)

    lowest, highest = map(math.log, _TEMPERATURES)
    found = minimize_scalar(loss, bounds=(lowest, highest), options={"xatol": 1e-8})
    return math.exp(found.x)


def log_loss(labels: IntArray, logits: FloatArray) -> float:
    """Return the mean negative log likelihood of `labels` under log odds of fake."""
    return float(np.mean(np.logaddexp(0, logits) - (labels == FAKE) * logits))


def _check(validation: pd.DataFrame) -> None:
    check_logits(validation)
    require_both_classes(validation["label"], "split 'val' of the predictions")
    if validation["logit"].nunique() == 1:
        raise InputError(
            f"every logit of validation is {validation['logit'].iloc[0]:g}: no threshold "
            "separates them; train a detector that tells images apart"
        )


def _check_saturation(logits: FloatArray, scores: FloatArray) -> None:
    if np.ptp(scores) == 0:
        raise InputError(
            f"every score of validation is {scores[0]:g}: its logits, {logits.min():g} to "
            f"{logits.max():g}, are saturated, and no threshold separates them; train the "
            "detector again with a lower train.learning_rate"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Read, decide, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("predictions_csv", "calibration_json", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(CalibrateParams, "calibrate")
    predictions = read_table(args.predictions_csv, PREDICTIONS)
    validation = predictions[predictions["split"] == "val"].reset_index(drop=True)
    calibration, document = calibrate(validation, params)
    save_calibration(calibration, args.calibration_json)
    write_json({"calibrate": document}, args.metrics_json)


if __name__ == "__main__":
    run(main)
