import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.evaluation.intervals import interval
from studies.shared.paired import Scored, bootstrap_p_value, differences, mcnemar

MANY = 10**9  # groups: Student's distribution is the normal one


def made(seed: int, images: int = 60) -> tuple[Scored, Scored, np.ndarray]:
    """Two detectors of equal strength on the same images, two of a group."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, images)
    label[:4] = [0, 0, 1, 1]
    scores = [1 / (1 + np.exp(-(2 * label - 1 + rng.normal(0, 1.5, images)))) for _ in range(2)]
    groups = np.array([f"g{number // 2}" for number in range(images)])
    return Scored(label, scores[0], 0.5), Scored(label, scores[1], 0.5), groups


def test_figures_are_those_worked_out_by_hand() -> None:
    # One of each outcome; three of the four pairs of a fake and a real stand in order.
    scored = Scored(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]), 0.5)
    figures = scored.metrics()
    assert figures["mcc"] == 0
    assert figures["auroc"] == 0.75
    assert figures["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["recall"] == figures["specificity"] == 0.5
    assert scored.correct.tolist() == [True, False, False, True]


def test_a_weight_counts_an_image_so_many_times() -> None:
    label, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    weighted = Scored(label, score, 0.5).metrics(np.array([1.0, 3.0, 1.0, 2.0]))
    rows = np.array([0, 1, 1, 1, 2, 3, 3])
    assert weighted == pytest.approx(Scored(label[rows], score[rows], 0.5).metrics())


def test_a_score_at_the_threshold_means_fake() -> None:
    assert Scored(np.array([0, 1]), np.array([0.5, 0.5]), 0.5).correct.tolist() == [False, True]


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (2, 1, 1.0), (8, 1, 20 / 512), (0, 5, 2 / 32)],
)
def test_mcnemar_is_the_binomial_test_of_what_only_one_gets_right(
    only_first: int, only_second: int, expected: float
) -> None:
    both = [True] * 7 + [False] * 3
    first = np.array(both + [True] * only_first + [False] * only_second)
    second = np.array(both + [False] * only_first + [True] * only_second)
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (only_first, only_second)
    assert result.p_value == pytest.approx(expected)


def test_a_p_value_counts_the_draws_on_the_other_side_of_zero() -> None:
    # Of 999 draws 24 are not above 0: (24 + 1) / (999 + 1) on one side.
    samples = np.concatenate([np.full(24, -1.0), np.full(975, 1.0)])
    assert bootstrap_p_value(samples, MANY) == pytest.approx(0.05)
    assert bootstrap_p_value(-samples, MANY) == pytest.approx(0.05)
    assert bootstrap_p_value(np.zeros(999), MANY) == 1
    assert bootstrap_p_value(np.append(samples, np.nan), MANY) == pytest.approx(0.05)


def test_few_groups_make_a_p_value_larger() -> None:
    samples = np.concatenate([np.full(24, -1.0), np.full(975, 1.0)])
    values = [bootstrap_p_value(samples, groups) for groups in (MANY, 30, 8, 3)]
    assert values == sorted(values)
    assert values[-1] > 0.2


@given(
    seed=st.integers(0, 1000),
    shift=st.floats(-4, 4),
    groups=st.integers(3, 200),
    confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_a_significant_difference_has_an_interval_without_zero(
    seed: int, shift: float, groups: int, confidence: float
) -> None:
    samples = np.random.default_rng(seed).normal(shift, 1, 199)
    low, high = interval(samples, confidence, groups)
    if bootstrap_p_value(samples, groups) < 1 - confidence:
        assert low > 0 or high < 0


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_swapping_two_detectors_turns_the_sign_and_nothing_else(seed: int) -> None:
    first, second, groups = made(seed)
    there = differences(first, second, groups, 99, 0.95, 0)
    back = differences(second, first, groups, 99, 0.95, 0)
    for name, change in there.items():
        assert change.change == pytest.approx(-back[name].change)
        assert (change.low, change.high) == pytest.approx((-back[name].high, -back[name].low))
        assert change.p_value == pytest.approx(back[name].p_value)
        assert change.low <= change.high


def test_a_detector_does_not_differ_from_itself() -> None:
    first, _, groups = made(1)
    for change in differences(first, first, groups, 99, 0.95, 0).values():
        assert change[2:] == (0, 0, 0, 1)


def test_a_difference_between_like_detectors_is_found_as_often_as_promised() -> None:
    found = 0
    for seed in range(200):
        first, second, groups = made(seed)
        found += differences(first, second, groups, 199, 0.95, seed)["auroc"].p_value < 0.05
    assert found <= 20  # 10 expected; 21 or more of 200 happen once in a thousand


def test_pairing_narrows_the_interval_of_like_scores() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    logit = 2 * label - 1 + rng.normal(0, 1.5, 200)
    groups = np.arange(200).astype(str)
    one = Scored(label, 1 / (1 + np.exp(-logit)), 0.5)
    other = Scored(label, 1 / (1 + np.exp(-(logit + rng.normal(0, 0.1, 200)))), 0.5)
    change = differences(one, other, groups, 199, 0.95, 0)["auroc"]
    unlike = Scored(label, 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(0, 1.5, 200)))), 0.5)
    apart = differences(one, unlike, groups, 199, 0.95, 0)["auroc"]
    assert change.high - change.low < (apart.high - apart.low) / 3
