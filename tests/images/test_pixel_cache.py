import os
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from src.core.cli import InputError
from src.images.pixel_cache import PixelCache, usable_space
from tests.helpers.make_data import make_image


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[PixelCache]:
    with closing(PixelCache(tmp_path / "scratch", 40, 10**6)) as cache:
        yield cache


def picture(number: int) -> np.ndarray:
    return make_image(number, 20 + number % 7)[:, : 20 - number % 3].copy()


def keep(cache: PixelCache, numbers: range) -> None:
    for number in numbers:
        cache.put(number, picture(number))


def test_what_is_kept_comes_back_as_it_was(cache: PixelCache) -> None:
    for number in (3, 0, 39):
        assert cache.get(number) is None
        cache.put(number, picture(number))
    for number in (0, 3, 39):
        found = cache.get(number)
        assert found is not None
        np.testing.assert_array_equal(found, picture(number))
        found[:] = 0  # its own memory: the next one is whole again
        np.testing.assert_array_equal(cache.get(number), picture(number))
    assert cache.get(1) is None


def test_processes_keep_side_by_side(cache: PixelCache) -> None:
    parts = [range(start, 40, 4) for start in range(4)]
    forked = [get_context("fork").Process(target=keep, args=(cache, part)) for part in parts]
    for process in forked:
        process.start()
    for process in forked:
        process.join()
    for number in range(40):
        np.testing.assert_array_equal(cache.get(number), picture(number))


def test_it_grows_to_its_space(cache: PixelCache) -> None:
    cache.space = picture(0).nbytes + 10
    keep(cache, range(2))
    assert cache.get(0) is not None
    assert cache.get(1) is None


def test_what_is_half_written_is_not_kept(
    cache: PixelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(0, picture(0))
    for column in range(3):
        row = cache._index[0].copy()
        cache._index[0, column] = 0
        assert cache.get(0) is None
        cache._index[0] = row
    assert cache.get(0) is not None
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, start: whole(file, data[:9], start))
    cache.put(1, picture(1))
    assert cache.get(1) is None


def test_a_full_disk_is_named(cache: PixelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device.*scratch"):
        cache.put(0, picture(0))
    assert cache.get(0) is None


def test_nothing_is_left_of_it(cache: PixelCache) -> None:
    cache.put(0, picture(0))
    assert not list(cache.folder.iterdir())


def test_the_space_is_a_share_of_memory_or_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REAL_OR_GENERATED_PIXELS", raising=False)
    assert 10**8 < usable_space() < 10**13
    monkeypatch.setenv("REAL_OR_GENERATED_PIXELS", "1.5")
    assert usable_space() == 1_500_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert usable_space() == 500_000_000
    for value in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv("REAL_OR_GENERATED_PIXELS", value)
        with pytest.raises(InputError, match=f"REAL_OR_GENERATED_PIXELS={value}: set it to"):
            usable_space()
