import numpy as np
import pytest

from src.command import InputError
from src.ranks import image_keys
from src.training.order import Order

KEYS = image_keys(f"method/{i}.jpg" for i in range(30))


def order(rank: int = 0, processes: int = 1, accumulation: int = 1, seed: int = 0) -> Order:
    return Order(KEYS, seed, 2, 8, accumulation, rank, processes)


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
    backwards = next(Order(KEYS[::-1].copy(), 0, 2, 8, 1).requests(0)).rows
    np.testing.assert_array_equal(29 - np.array(backwards), first.rows)


def test_a_batch_that_cannot_be_dealt_or_filled_is_refused() -> None:
    with pytest.raises(InputError, match="choose a multiple of 3"):
        order(processes=3)
    with pytest.raises(InputError, match="30 training images are fewer"):
        Order(KEYS, 0, 1, 32, 1)
