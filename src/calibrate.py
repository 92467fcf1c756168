"""Stage `calibrate`: the predictions of validation -> temperature, threshold, ood_distance."""

import logging
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.optimize import minimize_scalar
from scipy.special import expit

from src.core.arrays import FloatArray, IntArray
from src.core.cli import InputError, parse_paths, run
from src.core.files import write_json
from src.core.params import STRICT, load_params
from src.core.tables import FAKE, REAL, read_table, require_both_classes
from src.evaluation.calibration import Calibration, check_logits, save_calibration
from src.evaluation.intervals import Interval, Rounds, bootstrap_intervals
from src.evaluation.ranking import Curve, Ranking, best_threshold, dot, ratio
from src.inference.predictions import PREDICTIONS

ARGUMENTS = "predictions_csv calibration_json metrics_json"
logger = logging.getLogger(__name__)


_TEMPERATURES = 1e-3, 1e3  # beyond them the scores say all or nothing
# The last bits of a float differ between processors; six digits are those of the metrics.
_DIGITS = 6
_TIE = 1e-9  # shares that differ by less are equal: they are sums of fractions


@dataclass(frozen=True, config=STRICT)
class FalseAlarms:
    """A budget: the share of photographs, by groups, that may be called fake."""

    false_positive_rate: Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class CalibrateParams:
    """Section `calibrate` of params.yaml."""

    verdict: Literal["mcc"] | FalseAlarms  # where "fake" begins
    max_wrong: Annotated[float, Field(gt=0, le=1)]  # of either verdict; see unsure_band
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
    if isinstance(params.verdict, FalseAlarms):
        _warn_of_few(validation, params.verdict.false_positive_rate)
    weights = group_weights(labels, validation["group"])
    threshold, unsure = _verdict(labels, scores, weights, params)
    calibration = Calibration(
        temperature=temperature,
        threshold=threshold,
        # Source: Sun et al. 2022 (see knn_distance.py), which keep 95 % of validation, too.
        ood_distance=_rounded(np.quantile(validation["distance"], params.ood_quantile)),
        unsure=unsure,
    )
    ends = _temperature_interval(validation, params)
    return calibration, {
        "temperature": temperature,
        "temperature_low": float(ends.low),
        "temperature_high": float(ends.high),
        "threshold": calibration.threshold,
        "ood_distance": calibration.ood_distance,
        **_of_verdicts(calibration, validation, scores, weights),
        "val_loss_before": log_loss(labels, logits),
        "val_loss_after": log_loss(labels, logits / temperature),
    }


def _temperature_interval(validation: pd.DataFrame, params: CalibrateParams) -> Interval:
    labels, logits = validation["label"].to_numpy(), validation["logit"].to_numpy()
    return bootstrap_intervals(
        lambda weights: {"temperature": fit_temperature(labels, logits, weights)},
        validation["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )["temperature"]


def _verdict(
    labels: IntArray, scores: FloatArray, weights: FloatArray, params: CalibrateParams
) -> tuple[float, tuple[float, float] | None]:
    """Return the threshold, and the ends of the band around it."""
    ranking = Ranking(labels, scores)
    if isinstance(params.verdict, FalseAlarms):
        best = budget_threshold(ranking.curve(weights), params.verdict.false_positive_rate)
    else:
        best = best_threshold(ranking.curve())
    threshold = _shortened(best, scores)
    band = unsure_band(ranking.curve(weights), threshold, params.max_wrong)
    if band is None:
        return threshold, None
    low, high = band
    return threshold, (_shortened(low, scores), _shortened(high, scores))


def group_weights(labels: IntArray, groups: "pd.Series[Any]") -> FloatArray:
    """Return what each image counts, shape (n,): groups of a class alike, and both classes alike.

    Crops of one photograph are one piece of evidence, however many there are.
    """
    pairs = pd.factorize(groups)[0] * 2 + labels
    shares: FloatArray = 1 / np.bincount(pairs)[pairs]
    totals = np.bincount(labels, shares, minlength=2)
    weights: FloatArray = shares / totals[labels]
    return weights


def budget_threshold(curve: Curve, false_positive_rate: float) -> float:
    """Return the lowest threshold that calls no larger share of the photographs fake.

    It lies half-way between two scores.
    """
    rates = curve.false_positives / curve.false_positives[-1]
    passing = int(np.count_nonzero(rates <= false_positive_rate + _TIE))
    return _between(curve, passing)


def _warn_of_few(validation: pd.DataFrame, false_positive_rate: float) -> None:
    groups = validation.loc[validation["label"] == REAL, "group"].nunique()
    if groups * false_positive_rate < 1:
        logger.warning(
            "calibrate.verdict: a false_positive_rate of %g rests on %d groups of photographs: "
            "%d or more could show it",
            false_positive_rate,
            groups,
            math.ceil(1 / false_positive_rate),
        )


def unsure_band(curve: Curve, threshold: float, max_wrong: float) -> tuple[float, float] | None:
    """Return the ends of P(fake) between which neither verdict is given; None: always one is.

    They are those next to `threshold` outside of which at most the share `max_wrong` of what is
    called fake is real, and of what is called real fake. Where no score is that sure, the end is 0
    or 1.

    Source: selective prediction, Geifman and El-Yaniv 2017, Selective Classification for Deep
    Neural Networks, with one risk for each verdict.
    """
    above = int(np.count_nonzero(curve.thresholds >= threshold))  # steps that are called fake
    fakes, reals = curve.true_positives, curve.false_positives
    wrong_fake = ratio(reals, fakes + reals)
    below_fakes, below_reals = fakes[-1] - fakes, reals[-1] - reals  # under each step
    wrong_real = ratio(below_fakes, below_fakes + below_reals)
    sure_fake = np.flatnonzero(wrong_fake[:above] <= max_wrong + _TIE)
    sure_real = np.flatnonzero(wrong_real[max(above - 1, 0) : -1] <= max_wrong + _TIE)
    steps_fake = int(sure_fake[-1]) + 1 if len(sure_fake) else 0
    steps_real = max(above - 1, 0) + int(sure_real[0]) + 1 if len(sure_real) else len(fakes)
    if steps_fake == steps_real == above:
        return None
    low = threshold if steps_real == above else _between(curve, steps_real)
    high = threshold if steps_fake == above else _between(curve, steps_fake)
    return low, high


def _between(curve: Curve, steps: int) -> float:
    """Return the score half-way between the `steps` highest and the others, or 0 or 1."""
    ends = np.concatenate([[1.0], curve.thresholds, [0.0]])
    if steps in (0, len(curve.thresholds)):
        return float(steps == 0)
    return float((ends[steps] + ends[steps + 1]) / 2)


def _of_verdicts(
    calibration: Calibration, validation: pd.DataFrame, scores: FloatArray, weights: FloatArray
) -> dict[str, float]:
    """Return what the verdicts on validation come to, groups counted alike."""
    low, high = calibration.ends
    groups = validation.groupby("label")["group"].nunique()
    in_band = (scores >= low) & (scores < high)
    share, right = calibration.selective(validation["label"].to_numpy(), scores, weights)
    return {
        "unsure_low": low,
        "unsure_high": high,
        "real_groups": int(groups[REAL]),
        "fake_groups": int(groups[FAKE]),
        "unsure_groups": int(validation.loc[in_band, "group"].nunique()),
        "val_judged": share,
        "val_judged_right": right,
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
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(CalibrateParams, "calibrate")
    predictions = read_table(args.predictions_csv, PREDICTIONS)
    validation = predictions[predictions["split"] == "val"].reset_index(drop=True)
    calibration, document = calibrate(validation, params)
    save_calibration(calibration, args.calibration_json)
    write_json({"calibrate": document}, args.metrics_json)


if __name__ == "__main__":
    run(main)
