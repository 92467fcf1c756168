from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src.core.arrays import FloatArray
from src.evaluation.intervals import bootstrap, bootstrap_intervals, interval, rate_intervals


def coverage(trials: FloatArray, groups: NDArray[Any], rate: float) -> float:
    """Return how many of the intervals for the mean of each row of `trials` hold `rate`."""

    def statistic(weights: FloatArray) -> dict[str, FloatArray]:
        return {"share": trials @ weights / weights.sum()}

    ends = bootstrap_intervals(statistic, groups, rounds=1000, confidence=0.95, seed=0)["share"]
    return float(np.mean((ends.low <= rate) & (rate <= ends.high)))


def grouped_outcomes(
    generator: np.random.Generator, rate: float, groups: int, size: int
) -> tuple[FloatArray, FloatArray]:
    """Return right or wrong of `size` images a group, half of which share the group's outcome."""
    fates = generator.random((groups, 1)) < rate
    alone = generator.random((groups, size)) < rate
    outcomes = np.where(generator.random((groups, size)) < 0.5, fates, alone)
    return outcomes.ravel().astype(np.float64), np.arange(groups, dtype=np.float64).repeat(size)


@pytest.mark.parametrize("groups", [10, 20, 80])
def test_the_bootstrap_covers_a_known_proportion(groups: int) -> None:
    generator = np.random.default_rng(1)
    drawn = [grouped_outcomes(generator, 0.7, groups, size=4) for _ in range(1000)]

    assert coverage(np.stack([values for values, _ in drawn]), drawn[0][1], 0.7) >= 0.93


def test_images_counted_singly_would_not_cover_it() -> None:
    generator = np.random.default_rng(1)
    drawn = [grouped_outcomes(generator, 0.7, groups=80, size=4)[0] for _ in range(500)]

    assert coverage(np.stack(drawn), np.arange(len(drawn[0])), 0.7) < 0.9


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98, 1.0])
@pytest.mark.parametrize(("groups", "size"), [(6, 4), (25, 4), (100, 1)])
def test_rates_are_covered_up_to_one(rate: float, groups: int, size: int) -> None:
    generator, trials = np.random.default_rng(1), 500
    drawn = [grouped_outcomes(generator, rate, groups, size) for _ in range(trials)]
    ends = rate_intervals(
        np.concatenate([values for values, _ in drawn]) > 0,
        np.arange(trials).repeat(groups * size),
        np.concatenate([names for _, names in drawn]),
        0.95,
    )

    assert np.mean((ends.low <= rate) & (rate <= ends.high)) >= 0.93


def test_a_single_group_says_nothing_of_a_rate() -> None:
    ends = rate_intervals(np.ones(9, dtype=bool), np.zeros(9, dtype=int), np.zeros(9), 0.95)

    assert (ends.low[0], ends.high[0]) == pytest.approx((0, 1))


def test_independent_images_get_wilsons_interval() -> None:
    correct = np.arange(400) < 300
    ends = rate_intervals(correct, np.zeros(400, dtype=int), np.arange(400), 0.95)

    # 300 of 400 by Wilson's formula; Student's quantile for 399 degrees widens it a little.
    assert ends.low[0] == pytest.approx(0.7053, abs=1e-3)
    assert ends.high[0] == pytest.approx(0.7900, abs=1e-3)


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "a", "c", "c", "c"])
    drawn = bootstrap(lambda weights: {"weights": weights}, groups, rounds=50, seed=0)["weights"]

    assert (drawn[:, 1] == drawn[:, 2]).all()
    assert (drawn[:, 3] == drawn[:, 5]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_a_seed_is_a_draw() -> None:
    groups = np.arange(30)

    def draws(seed: int) -> FloatArray:
        return bootstrap(lambda weights: {"first": weights[0]}, groups, 40, seed)["first"]

    np.testing.assert_array_equal(draws(1), draws(1))
    assert (draws(1) != draws(2)).any()


def test_rounds_without_a_value_are_left_out() -> None:
    samples = np.append(np.arange(1.0, 100), [np.nan] * 7)
    ends = interval(samples, 0.5, groups=10**9)

    assert (ends.low, ends.high) == pytest.approx((25, 75))
