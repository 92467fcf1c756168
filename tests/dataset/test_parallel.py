"""Tests of src/dataset/parallel.py."""

import pandas as pd
import pytest

from src.core.cli import InputError
from src.dataset import parallel
from src.dataset.parallel import map_images


def numbers(rows: pd.DataFrame) -> list[int]:
    return [2 * number for number in rows["number"]]


def refuse(rows: pd.DataFrame) -> None:
    raise InputError(f"image {rows['number'].iloc[0]}")


IMAGES = pd.DataFrame({"number": range(1000), "length": 1})


@pytest.mark.parametrize("bytes_per_worker", [1_000_000, 1])
def test_results_are_in_order_whatever_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, bytes_per_worker: int
) -> None:
    monkeypatch.setattr(parallel, "_BYTES_PER_WORKER", bytes_per_worker)
    parts = list(map_images(numbers, IMAGES, "test"))
    assert [number for part in parts for number in part] == list(range(0, 2000, 2))
    assert max(map(len, parts)) == 256


def test_no_images_no_calls() -> None:
    assert list(map_images(refuse, IMAGES[:0], "test")) == []


def test_an_error_in_another_process_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_BYTES_PER_WORKER", 1)
    with pytest.raises(InputError, match="image"):
        list(map_images(refuse, IMAGES, "test"))
