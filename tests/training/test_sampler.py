import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.cli import InputError
from src.core.hashing import image_keys
from src.training.sampler import BatchSampler, Strata, balanced_strata

KEYS = image_keys(f"method/{i}.jpg" for i in range(30))


def order(rank: int = 0, processes: int = 1, accumulation: int = 1, seed: int = 0) -> BatchSampler:
    return BatchSampler(KEYS, seed, 2, 8, accumulation, rank, processes)


def test_every_image_is_seen_at_most_once_an_epoch_and_all_processes_share_a_batch() -> None:
    shares = [list(order(rank, 2, 2).requests(0)) for rank in range(2)]
    assert len(shares[0]) == 2 * 3 * 2  # epochs, updates, micro-batches
    for epoch in range(2):
        rows = [row for share in shares for r in share if r.epoch == epoch for row in r.rows]
        assert len(rows) == len(set(rows)) == 24
    alone = list(order().requests(0))
    update = {row for share in shares for request in share[:2] for row in request.rows}
    assert update == set(alone[0].rows)


def test_a_plan_continues_where_it_stopped() -> None:
    whole = list(order(accumulation=2).requests(0))
    for update in range(7):
        assert list(order(accumulation=2).requests(update)) == whole[2 * update :]


def test_the_order_changes_with_epoch_and_seed_but_not_with_the_order_of_the_rows() -> None:
    first, *_, last = order().requests(0)
    assert set(first.rows) != set(last.rows)
    assert first.rows != next(order(seed=1).requests(0)).rows
    backwards = next(BatchSampler(KEYS[::-1].copy(), 0, 2, 8, 1).requests(0)).rows
    np.testing.assert_array_equal(29 - np.array(backwards), first.rows)


def test_a_batch_that_cannot_be_dealt_or_filled_is_refused() -> None:
    with pytest.raises(InputError, match="choose a multiple of 3"):
        order(processes=3)
    with pytest.raises(InputError, match="30 training images an epoch are fewer"):
        BatchSampler(KEYS, 0, 1, 32, 1)


def strata(table: pd.DataFrame, sampling: str) -> Strata:
    found = balanced_strata(table, sampling)  # type: ignore[arg-type]  # of a parameter
    assert found is not None
    return found


COUNTS = {("real", 0): 14, ("coco", 0): 6, ("gan", 1): 5, ("diffusion", 1): 3, ("glide", 1): 2}
TABLE = pd.DataFrame(
    [
        {"method": method, "label": label}
        for (method, label), count in COUNTS.items()
        for _ in range(count)
    ]
)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("class_balanced", {0: 10, 1: 10}),
        # Two of each of three generators; three each of two sources of photographs.
        ("generator_balanced", {"real": 3, "coco": 3, "gan": 2, "diffusion": 2, "glide": 2}),
    ],
)
def test_every_epoch_is_balanced_and_its_images_change(
    sampling: str, expected: dict[str | int, int]
) -> None:
    order = BatchSampler(KEYS, 0, 40, 2, 1, strata=strata(TABLE, sampling))
    column = "label" if sampling == "class_balanced" else "method"
    epochs: dict[int, list[int]] = {}
    for request in order.requests(0):
        epochs.setdefault(request.epoch, []).extend(request.rows)
    assert len(epochs) == 40
    for rows in epochs.values():
        assert len(set(rows)) == len(rows)
        assert TABLE.iloc[rows][column].value_counts().to_dict() == expected
    assert set().union(*epochs.values()) == set(range(30))  # in time, all of them


def test_a_balanced_order_continues_and_is_shared_like_any_other() -> None:
    chosen = strata(TABLE, "class_balanced")
    whole = list(BatchSampler(KEYS, 0, 3, 4, 1, strata=chosen).requests(0))
    assert list(BatchSampler(KEYS, 0, 3, 4, 1, strata=chosen).requests(7)) == whole[7:]
    shares = [list(BatchSampler(KEYS, 0, 3, 4, 1, r, 2, chosen).requests(0)) for r in range(2)]
    for together, first, second in zip(whole, *shares, strict=True):
        assert set(together.rows) == {*first.rows, *second.rows}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 5))
def test_no_method_gives_more_than_it_has(counts: list[int], reals: int) -> None:
    reals = min(reals, len(counts) - 1)
    rows = [(i, int(i >= reals)) for i, count in enumerate(counts) for _ in range(count)]
    table = pd.DataFrame(rows, columns=["method", "label"])
    members, quotas = strata(table, "generator_balanced")
    sizes = np.bincount(members)
    assert (quotas <= sizes).all()
    labels = table.groupby(members)["label"].first().to_numpy()
    for label in (0, 1):
        assert len(set(quotas[labels == label])) == 1
    assert balanced_strata(table, "all") is None


def test_too_few_balanced_images_are_named() -> None:
    with pytest.raises(InputError, match="12 training images an epoch are fewer"):
        BatchSampler(KEYS, 0, 1, 16, 1, strata=strata(TABLE, "generator_balanced"))
