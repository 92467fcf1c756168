"""How long a fetch will take, as the last one from the same host did."""

from pathlib import Path

import pytest

from src.sources.local.cache import Cache
from src.sources.shared.speed import Speed, last_speed, remember_speed

MB = 10**6


@pytest.mark.parametrize(("size", "requests"), [(12 * MB, 1000), (800 * MB, 100), (0, 50)])
def test_the_same_again_takes_as_long_and_twice_as_much_takes_twice(
    size: int, requests: int
) -> None:
    speed = Speed(size / 7, requests / 7)
    assert speed.seconds(size, requests) == pytest.approx(7)
    assert speed.seconds(2 * size, 2 * requests) == pytest.approx(14)


def test_few_large_reads_and_many_small_ones_foretell_each_other() -> None:
    # A server of 80 MB/s that answers 1,200 requests a second.
    large, small = (Speed(80 * MB, 10), (800 * MB, 100)), (Speed(14.4 * MB, 1200), (12 * MB, 1000))
    assert 5 < small[0].seconds(*large[1]) < 20  # it will be 10
    assert 0.4 < large[0].seconds(*small[1]) < 1.7  # 0.8


def test_it_is_remembered_for_a_host_until_the_next_fetch(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert last_speed(cache, "https://host/a.zip") is None
    remember_speed(cache, "https://host/a.zip", 100_000, 3, 0.1)
    assert last_speed(cache, "https://host/a.zip") is None, "too little to say anything"
    for seconds in (4, 2):
        remember_speed(cache, "https://host/a.zip", 12 * MB, 1000, seconds)
    assert last_speed(cache, "https://host/b/c.zip") == Speed(6 * MB, 500)
    assert last_speed(cache, "https://other/a.zip") is None
