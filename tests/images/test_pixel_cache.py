import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from src.core.cli import InputError
from src.images.pixel_cache import PixelStore, kept_pixels, usable_space
from tests.helpers.make_data import make_image


@pytest.fixture
def store(tmp_path: Path) -> PixelStore:
    PixelStore.create(tmp_path / "store" / "pixels", 40)
    return PixelStore(tmp_path / "store" / "pixels", 10**6)


def picture(number: int) -> np.ndarray:
    return make_image(number, 20 + number % 7)[:, : 20 - number % 3].copy()


def keep(store: PixelStore, numbers: range) -> None:
    for number in numbers:
        store.put(number, picture(number))


def test_what_is_kept_comes_back_as_it_was(store: PixelStore) -> None:
    for number in (3, 0, 39):
        assert store.get(number) is None
        store.put(number, picture(number))
    for number in (0, 3, 39):
        found = store.get(number)
        assert found is not None
        np.testing.assert_array_equal(found, picture(number))
        found[:] = 0  # its own memory: the next one is whole again
        np.testing.assert_array_equal(store.get(number), picture(number))
    assert store.get(1) is None


def test_processes_keep_side_by_side(store: PixelStore) -> None:
    assert pickle.loads(pickle.dumps(store)).limit == store.limit
    parts = [range(start, 40, 4) for start in range(4)]
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(keep, [store] * 4, parts))
    for number in range(40):
        np.testing.assert_array_equal(store.get(number), picture(number))
    assert store.path.stat().st_size == sum(picture(number).nbytes for number in range(40))


def test_it_grows_to_its_limit(store: PixelStore) -> None:
    store.limit = picture(0).nbytes + 10
    keep(store, range(2))
    assert store.get(0) is not None
    assert store.get(1) is None
    assert store.path.stat().st_size == picture(0).nbytes


def test_half_a_place_is_none(store: PixelStore) -> None:
    store.put(0, picture(0))
    for column in range(3):
        place = store.places[0].copy()
        store.places[0, column] = 0
        assert store.get(0) is None
        store.places[0] = place
    assert store.get(0) is not None


def test_a_file_cut_short_is_named(store: PixelStore) -> None:
    store.put(0, picture(0))
    with store.path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match="pixels was cut short"):
        store.get(0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_named(store: PixelStore) -> None:
    store.path.unlink()
    store.path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*pixels"):
        store.put(0, picture(0))
    assert store.get(0) is None


def test_the_folder_is_for_one_run(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    killed = tmp_path / "pixels-8" / "pixels"
    PixelStore.create(killed, 3)
    with kept_pixels(tmp_path, 3, 10**6, accelerator) as store:
        assert store is not None
        assert not killed.exists()
        assert store.get(2) is None
    assert not list(tmp_path.iterdir())
    with kept_pixels(tmp_path, 3, 0, accelerator) as nothing:
        assert nothing is None


def test_the_space_is_a_share_of_memory_or_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REAL_OR_GENERATED_PIXELS", raising=False)
    assert 10**8 < usable_space() < 10**13
    monkeypatch.setenv("REAL_OR_GENERATED_PIXELS", "1.5")
    assert usable_space() == 1_500_000_000
    for value in ("-1", "much", "inf", "nan"):
        monkeypatch.setenv("REAL_OR_GENERATED_PIXELS", value)
        with pytest.raises(InputError, match=f"REAL_OR_GENERATED_PIXELS={value}: set it to"):
            usable_space()
