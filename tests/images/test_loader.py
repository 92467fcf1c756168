import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core.cli import InputError
from src.images.crops import View
from src.images.decode import UndecodableImage
from src.images.loader import ImageSet, Request, build_loader, consecutive, default_workers
from src.images.pixel_cache import PixelStore
from src.training.augmentation import Augmentation
from tests.helpers.make_training import AUGMENT, make_split

VIEW = View(size=16, resize=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("images") / "raw"
    table = make_split(root)
    table.attrs["root"] = root
    return table


def image_set(table: pd.DataFrame) -> ImageSet:
    return ImageSet(table, table.attrs["root"], Augmentation(AUGMENT, VIEW, 0))


def test_workers_change_nothing(table: pd.DataFrame) -> None:
    # So many that each worker puts several of them together in the same memory.
    requests = [Request(epoch, rows) for epoch in range(9) for rows in ([5, 1, 2], [0, 3, 35])]
    here, there = (
        [(b.images, b.rows) for b in build_loader(image_set(table), requests, workers)]
        for workers in (0, 2)
    )
    for (images, rows), (other_images, other_rows) in zip(here, there, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(rows, other_rows)
    assert here[0][0].dtype == torch.uint8
    assert here[0][0].shape == (3, 16, 16, 3)


def test_kept_pixels_change_nothing(table: pd.DataFrame, tmp_path: Path) -> None:
    some = table[table["split"] == "val"]  # its index does not begin at 0
    PixelStore.create(tmp_path / "kept" / "pixels", len(table))
    kept = PixelStore(tmp_path / "kept" / "pixels", 10**6)
    augmentation = Augmentation(AUGMENT, VIEW, 0)
    keeping, plain = (
        ImageSet(some, table.attrs["root"], augmentation, kept=store) for store in (kept, None)
    )
    for epoch in range(3):
        requests = consecutive(len(some), 5, epoch)
        for batch, other in zip(build_loader(keeping, requests, 2), requests, strict=True):
            assert torch.equal(batch.images, plain.__getitems__(other).images)
    assert kept.get(int(some.index[0])) is not None
    assert kept.get(0) is None


def test_an_image_does_not_depend_on_its_batch(table: pd.DataFrame) -> None:
    images = image_set(table)
    whole = images.__getitems__(Request(0, range(len(images))))
    assert len(images) == 36
    for row in (0, 7, 35):
        assert torch.equal(whole.images[row], images[row].images[0])


def test_a_set_can_be_pickled(table: pd.DataFrame) -> None:
    images = image_set(table)
    images[0]
    assert torch.equal(pickle.loads(pickle.dumps(images))[3].images, images[3].images)


def test_a_damaged_image_is_named(table: pd.DataFrame, tmp_path: Path) -> None:
    del tmp_path
    damaged = table.assign(length=table["length"] - 50)
    damaged.attrs = table.attrs
    with pytest.raises(UndecodableImage, match=r"ffhq/000.jpg in ffhq-00000.tar"):
        image_set(damaged)[0]


@given(rows=st.integers(1, 60), batch=st.integers(1, 20))
def test_consecutive_requests_take_every_row_once(rows: int, batch: int) -> None:
    requests = consecutive(rows, batch)
    assert [row for request in requests for row in request.rows] == list(range(rows))
    assert all(len(request.rows) == batch for request in requests[:-1])


def test_the_environment_sets_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "0")
    assert default_workers() == 0
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "many")
    with pytest.raises(InputError, match="REAL_OR_GENERATED_WORKERS=many"):
        default_workers()
    monkeypatch.delenv("REAL_OR_GENERATED_WORKERS")
    assert default_workers() >= 1
