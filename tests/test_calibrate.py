import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from src import calibrate as stage
from src.calibrate import (
    CalibrateParams,
    FalseAlarms,
    budget_threshold,
    calibrate,
    fit_temperature,
    group_weights,
    log_loss,
    unsure_band,
)
from src.core.arrays import FloatArray, IntArray
from src.core.cli import InputError
from src.core.tables import write_table
from src.evaluation.calibration import load_calibration, save_calibration
from src.evaluation.ranking import Curve, Ranking, best_threshold
from src.inference.predictions import PREDICTIONS
from tests.helpers.make_predictions import make_predictions

PARAMS = CalibrateParams(
    verdict="mcc",
    max_wrong=0.25,
    ood_quantile=0.9,
    bootstrap_rounds=50,
    confidence=0.95,
    seed=0,
)
PATHS = ["predictions.csv", "calibration.json", "calibrate.json"]


@pytest.fixture(scope="module")
def validation() -> pd.DataFrame:
    predictions = make_predictions(images_per_method=60, seed=0)
    return predictions[predictions["split"] == "val"]


def drawn(count: int, temperature: float) -> tuple[IntArray, FloatArray]:
    """Return labels and the logits of a detector that is `temperature` times too sure of them."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, count)
    labels = (generator.random(count) < expit(logits)).astype(np.int64)
    return labels, logits * temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_made_the_logits_too_sure(temperature: float) -> None:
    assert fit_temperature(*drawn(20_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss() -> None:
    labels, logits = drawn(20_000, 2.0)
    best = fit_temperature(labels, logits)

    for other in (0.9, 0.97, 1.03, 1.1):
        assert log_loss(labels, logits / best) < log_loss(labels, logits / (best * other))


def test_an_image_drawn_twice_is_two_images() -> None:
    labels, logits = drawn(300, 1.5)
    times = np.random.default_rng(1).integers(0, 4, 300)

    weighted = fit_temperature(labels, logits, times.astype(np.float64))
    assert weighted == pytest.approx(fit_temperature(labels.repeat(times), logits.repeat(times)))


def test_images_told_apart_without_an_error_ask_for_no_certainty() -> None:
    temperature = fit_temperature(np.array([0, 0, 1, 1]), np.array([-2.0, -1, 1, 2]))

    # Four images do not show odds of more than 3 to 1: (2 + 1) / (2 + 2).
    assert expit(2 / temperature) == pytest.approx(0.8, abs=0.05)


def test_every_decision_is_free_of_the_test_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "load_params", lambda *_: PARAMS)
    predictions = make_predictions(images_per_method=30, seed=0)
    is_test = predictions["split"] == "test"
    shuffled = predictions.copy()
    labels = predictions.loc[is_test, "label"].to_numpy()
    shuffled.loc[is_test, "label"] = np.random.default_rng(0).permutation(labels)
    assert not shuffled.equals(predictions)
    written = []
    for table in (predictions, shuffled):
        write_table(table, tmp_path / PATHS[0], PREDICTIONS)
        stage.main(PATHS)
        written.append([(tmp_path / name).read_bytes() for name in PATHS[1:]])

    assert written[0] == written[1]
    document = json.loads(written[0][1])["calibrate"]
    calibration = load_calibration(tmp_path / PATHS[1])
    assert document["temperature"] == calibration.temperature
    assert document["threshold"] == calibration.threshold
    assert document["ood_distance"] == calibration.ood_distance


def test_the_document_holds_what_it_did_to_validation(validation: pd.DataFrame) -> None:
    calibration, document = calibrate(validation.assign(logit=3 * validation["logit"]), PARAMS)

    assert document["temperature_low"] < calibration.temperature < document["temperature_high"]
    assert document["val_loss_after"] < document["val_loss_before"]


def test_the_asked_share_of_validation_is_not_far(validation: pd.DataFrame) -> None:
    calibration, _ = calibrate(validation, PARAMS)

    near = validation["distance"] <= calibration.ood_distance
    assert near.mean() == pytest.approx(PARAMS.ood_quantile, abs=0.01)


def test_the_threshold_is_of_calibrated_scores(validation: pd.DataFrame) -> None:
    there, _ = calibrate(validation, PARAMS)
    sure, _ = calibrate(validation.assign(logit=5 * validation["logit"]), PARAMS)

    assert sure.temperature == pytest.approx(5 * there.temperature, rel=1e-4)
    assert sure.threshold == pytest.approx(there.threshold, rel=1e-4)


@pytest.mark.parametrize("offset", [0.1, 0.3, 0.5])
def test_what_is_written_parts_validation_as_what_was_chosen(
    validation: pd.DataFrame, tmp_path: Path, offset: float
) -> None:
    # Of a detector that has hardly learnt anything: scores differ in the seventh digit.
    table = validation.assign(logit=offset + 1e-5 * validation["logit"])
    calibration, _ = calibrate(table, PARAMS)
    scores = calibration.probability(table["logit"].to_numpy())
    best = best_threshold(Ranking(table["label"].to_numpy(), scores).curve())
    save_calibration(calibration, tmp_path / "calibration.json")

    stored = load_calibration(tmp_path / "calibration.json")
    assert ((scores >= stored.threshold) == (scores >= best)).all()


@pytest.mark.parametrize(("label", "name"), [(0, "real"), (1, "fake")])
def test_validation_needs_both_classes(validation: pd.DataFrame, label: int, name: str) -> None:
    with pytest.raises(InputError, match=f"split 'val' of the predictions: no {name} image"):
        calibrate(validation[validation["label"] != label], PARAMS)


def test_a_constant_detector_is_refused(validation: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"every logit of validation is 0\.5: no threshold"):
        calibrate(validation.assign(logit=0.5), PARAMS)


def test_logits_are_numbers(validation: pd.DataFrame) -> None:
    with pytest.raises(
        InputError, match=r"the logit of .* is nan, expected a number between -1e\+06"
    ):
        calibrate(validation.assign(logit=float("nan")), PARAMS)


def test_logits_that_say_nothing_are_warned_of(
    validation: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate(validation.assign(logit=-validation["logit"]), PARAMS)

    assert "on validation the logits say nothing" in caplog.text


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (5e5, 9e5, "every score of validation is 1: its logits, 500000 to 900000, are saturated"),
        (-1e300, 1e300, r"is -1e\+300, expected a number between -1e\+06 and 1e\+06"),
        (-np.inf, np.inf, "is -inf, expected a number"),
    ],
)
def test_saturated_logits_are_refused(low: float, high: float, message: str) -> None:
    validation = make_predictions(images_per_method=10, seed=0)
    validation = validation[validation["split"] == "val"]
    validation["logit"] = np.where(np.arange(len(validation)) % 2 == 0, low, high)
    with pytest.raises(InputError, match=message):
        calibrate(validation, PARAMS)


def curve_of(labels: Sequence[int], scores: Sequence[float]) -> Curve:
    return Ranking(np.array(labels), np.array(scores)).curve()


def test_a_budget_of_false_alarms_is_kept_and_used() -> None:
    labels, scores = [1, 0, 1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.2, 0.1]
    thresholds = {
        rate: budget_threshold(curve_of(labels, scores), rate) for rate in (0.1, 0.25, 0.6)
    }
    assert thresholds == pytest.approx({0.1: 0.85, 0.25: 0.65, 0.6: 0.35})
    # A photograph has the highest score: nothing may be called fake.
    assert budget_threshold(curve_of([0, 1], [0.9, 0.5]), 0.1) == 1


def test_groups_count_alike_however_many_images_they_have() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    weights = group_weights(labels, pd.Series(["a", "a", "a", "b", "c", "a"]))
    np.testing.assert_allclose(weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2, 1 / 2, 1 / 2])


@pytest.mark.parametrize(
    ("max_wrong", "band"),
    [(1.0, None), (0.4, None), (0.3, (0.15, 0.5)), (0.2, (0.15, 0.85)), (0.05, (0.15, 0.85))],
)
def test_outside_of_the_band_verdicts_are_as_often_right_as_wanted(
    max_wrong: float, band: tuple[float, float] | None
) -> None:
    labels, scores = [1, 0, 1, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.55, 0.45, 0.2, 0.1]
    found = unsure_band(curve_of(labels, scores), 0.5, max_wrong)
    assert found == (band if band is None else pytest.approx(band))


def test_where_no_score_is_sure_there_is_no_such_verdict() -> None:
    assert unsure_band(curve_of([0, 1, 0, 1], [0.9, 0.8, 0.2, 0.1]), 0.5, 0.1) == (0, 1)


@given(
    scores=st.lists(st.integers(0, 20), min_size=4, max_size=40),
    max_wrong=st.sampled_from([0.05, 0.2, 0.4]),
    seed=st.integers(0, 99),
)
def test_the_band_holds_what_it_promises(scores: list[int], max_wrong: float, seed: int) -> None:
    p = np.array(scores) / 20
    labels = (np.random.default_rng(seed).random(len(p)) < p).astype(np.int64)
    if len(np.unique(p)) < 2 or len(np.unique(labels)) < 2:
        return
    curve = Ranking(labels, p).curve()
    threshold = best_threshold(curve)
    low, high = unsure_band(curve, threshold, max_wrong) or (threshold, threshold)
    assert low <= threshold <= high
    for chosen, wrong in ((p >= high, 0), (p < low, 1)):
        if chosen.any() and high > 0 and low < 1 and high < 1:
            assert (labels[chosen] == wrong).mean() <= max_wrong + 1e-9


def test_a_budget_that_rests_on_few_groups_is_warned_of(
    validation: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    params = replace(PARAMS, verdict=FalseAlarms(0.001))
    calibration, document = calibrate(validation, params)
    assert re.search(r"of 0\.001 rests on \d+ groups of photographs: 1000 or more", caplog.text)
    reals = validation[validation["label"] == 0]
    scores = calibration.probability(reals["logit"].to_numpy())
    assert (scores < calibration.threshold).all()
    assert 0 < document["val_judged"] <= 1
    assert document["val_judged_right"] >= 1 - PARAMS.max_wrong
