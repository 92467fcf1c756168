from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from src.core.arrays import FloatArray
from src.core.cli import InputError
from src.evaluation.calibration import Calibration, load_calibration, save_calibration


@given(
    arrays.arrays(np.float64, st.integers(2, 30), elements=st.floats(-50, 50)),
    st.floats(1e-3, 1e3),
)
def test_a_temperature_keeps_the_ranking(logits: FloatArray, temperature: float) -> None:
    scores = Calibration(temperature, 0.5, 1.0).probability(logits)

    assert ((scores >= 0) & (scores <= 1)).all()
    order = np.argsort(logits)
    assert (np.diff(scores[order]) >= 0).all()


def test_not_a_digit_of_the_threshold_is_lost(tmp_path: Path) -> None:
    calibration = Calibration(1.25, 0.50026431234567, 0.125)
    save_calibration(calibration, tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == calibration


def test_odds_of_even_stay_even_and_a_temperature_of_one_changes_nothing() -> None:
    assert Calibration(3.0, 0.5, 1.0).probability(np.zeros(1))[0] == 0.5
    assert Calibration(1.0, 0.5, 1.0).probability(np.log([3.0]))[0] == pytest.approx(0.75)
    assert Calibration(2.0, 0.5, 1.0).probability(np.log([9.0]))[0] == pytest.approx(0.75)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    calibration = Calibration(1.25, 0.375, 0.5)
    save_calibration(calibration, tmp_path / "c.json")

    assert load_calibration(tmp_path / "c.json") == calibration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"temperature": 0, "threshold": 0.5, "ood_distance": 1.0}',
            "temperature: Input should be greater than 0",
        ),
        ('{"temperature": 1.0, "ood_distance": 1.0}', "threshold: Field required"),
        ("[", "Invalid JSON"),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.json").write_text(text)

    with pytest.raises(InputError, match=rf"c\.json is no calibration: .*{message}"):
        load_calibration(tmp_path / "c.json")


def test_between_the_ends_there_is_no_verdict() -> None:
    scores, labels = np.array([0.1, 0.2, 0.5, 0.8, 0.9]), np.array([0, 1, 1, 0, 1])
    sure, unsure = Calibration(1.0, 0.5, 1.0), Calibration(1.0, 0.5, 1.0, (0.2, 0.8))
    assert sure.verdicts(scores) == ["real", "real", "fake", "fake", "fake"]
    assert unsure.verdicts(scores) == ["real", "unsure", "unsure", "fake", "fake"]
    assert sure.selective(labels, scores, np.ones(5)) == (1, 0.6)
    assert unsure.selective(labels, scores, np.ones(5)) == pytest.approx((0.6, 2 / 3))
    weights = np.array([1.0, 1, 1, 0, 1])
    assert unsure.selective(labels, scores, weights) == (0.5, 1)
