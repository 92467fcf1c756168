import numpy as np
import pytest
from scipy.special import expit

from src.core.arrays import FloatArray
from src.evaluation.calibration_error import debiased_root
from src.evaluation.metrics import score_bins

BINS = 15


def test_what_the_rounds_add_is_taken_off_twice() -> None:
    samples = np.linspace(0.5, 0.7, 201)  # 0.1 above the images' own, which are 0.1 above the truth
    value, low, high = debiased_root(0.5, samples, 0.5, groups=10**9)

    assert value**2 == pytest.approx(0.4)
    assert (low**2, high**2) == pytest.approx((0.35, 0.45), abs=1e-3)


def test_what_is_nothing_but_noise_is_nought() -> None:
    assert debiased_root(0.1, np.linspace(0.25, 0.35, 99), 0.95, groups=50) == (0, 0, 0)


def truth(slope: float) -> float:
    """Return the calibration error of scores whose log odds should be `slope` times as large."""
    logits = np.random.default_rng(0).normal(0, 2, 1_000_000)
    gaps = expit(logits) - expit(slope * logits)
    bins = score_bins(expit(logits), BINS)
    return float(np.sqrt((np.bincount(bins, gaps) ** 2 / np.bincount(bins)).sum() / len(logits)))


def squares(counts: FloatArray, gaps: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the mean square of groups drawn `counts` times, (rounds, groups), of bins' sums."""
    gap, size = counts @ gaps, counts @ sizes
    return np.asarray((gap**2 / np.maximum(size, 1)).sum(-1) / size.sum(-1))


@pytest.mark.parametrize("slope", [1.0, 0.6])
def test_the_interval_covers_a_known_calibration_error(slope: float) -> None:
    generator, expected, trials = np.random.default_rng(0), truth(slope), 200
    covered, values = 0, []
    for _ in range(trials):
        logits = generator.normal(0, 2, (80, 4))
        fates = np.where(generator.random(logits.shape) < 0.5, generator.random((80, 1)), 0)
        fates = np.where(fates > 0, fates, generator.random(logits.shape))
        fake = fates < expit(slope * logits)  # half of the images share their group's fate
        bins = score_bins(expit(logits), BINS)
        inside = bins[..., np.newaxis] == np.arange(BINS)
        gaps = (inside * (expit(logits) - fake)[..., np.newaxis]).sum(1)
        sizes = inside.sum(1).astype(np.float64)
        rounds = generator.multinomial(80, np.full(80, 1 / 80), 200).astype(np.float64)
        samples = squares(rounds, gaps, sizes)
        value, low, high = debiased_root(
            float(squares(np.ones(80), gaps, sizes)), samples, 0.95, 80
        )
        covered += low <= expected <= high
        values.append(value)

    assert covered / trials >= 0.93
    assert np.mean(values) == pytest.approx(expected, abs=0.03)
