import pytest
import sklearn.metrics
from hypothesis import given

from src.core.arrays import FloatArray, IntArray
from src.evaluation import ranking
from tests.evaluation.test_metrics import curve_of, predictions


@given(predictions())
def test_no_threshold_beats_the_chosen_one(
    data: tuple[IntArray, FloatArray, FloatArray],
) -> None:
    y_true, y_score, _ = data
    if len(set(y_score)) == 1:
        return
    chosen = ranking.best_threshold(curve_of(y_true, y_score))

    def quality(threshold: float) -> float:
        return float(sklearn.metrics.matthews_corrcoef(y_true, y_score >= threshold))

    assert quality(chosen) == pytest.approx(max(quality(cut) for cut in sorted(set(y_score))[1:]))
    assert chosen not in y_score


def test_a_threshold_lies_in_the_middle_of_the_widest_gap() -> None:
    assert ranking.best_threshold(curve_of([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])) == pytest.approx(
        0.5
    )
    # Cutting off the first or the last image is equally good; the wider gap is below.
    assert ranking.best_threshold(curve_of([0, 1, 0, 1], [0.1, 0.5, 0.6, 0.7])) == pytest.approx(
        0.3
    )


def test_equal_scores_allow_no_threshold() -> None:
    with pytest.raises(ValueError, match=r"every score is 0\.5: no threshold separates"):
        ranking.best_threshold(curve_of([0, 1], [0.5, 0.5]))
