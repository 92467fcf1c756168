import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.core.cli import InputError
from src.images.crops import Crops, View
from src.images.decode import RGBImage, UndecodableImage
from src.images.loader import (
    BatchLoader,
    ImageSet,
    Request,
    consecutive,
    default_workers,
)
from src.images.pixel_cache import PixelCache
from src.training.augmentation import Augmentation
from tests.helpers import ROOT
from tests.helpers.make_training import AUGMENT, make_split

VIEW = View(size=16, resize=False)
LOAD = """
import sys
from pathlib import Path
import pandas as pd
from src.images.crops import GridCrops, View
from src.images.loader import BatchLoader, ImageSet, consecutive
root = Path(sys.argv[1])
table = pd.read_csv(root / "table.csv", index_col=0)
images = ImageSet(table, root, GridCrops(View(size=64, resize=False), 1))
assert len(list(BatchLoader(images, consecutive(len(table), 36) * 9, 36, 2))) == 9
"""


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
        [(b.images, b.rows) for b in BatchLoader(image_set(table), requests, 3, workers)]
        for workers in (0, 2)
    )
    for (images, rows), (other_images, other_rows) in zip(here, there, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(rows, other_rows)
    assert here[0][0].dtype == torch.uint8
    assert here[0][0].shape == (3, 16, 16, 3)


def test_kept_pixels_change_nothing(table: pd.DataFrame, tmp_path: Path) -> None:
    some = table[table["split"] == "val"]  # its index does not begin at 0
    kept = PixelCache(tmp_path, len(table), 10**6)
    augmentation = Augmentation(AUGMENT, VIEW, 0)
    keeping, plain = (
        ImageSet(some, table.attrs["root"], augmentation, kept=store) for store in (kept, None)
    )
    for epoch in range(3):
        requests = consecutive(len(some), 5, epoch)
        for batch, other in zip(BatchLoader(keeping, requests, 5, 2), requests, strict=True):
            assert torch.equal(batch.images, plain.batch(other).images)
    assert kept.get(int(some.index[0])) is not None
    assert kept.get(0) is None
    kept.close()


def test_an_image_does_not_depend_on_its_batch(table: pd.DataFrame) -> None:
    images = image_set(table)
    whole = images.batch(Request(0, range(len(images))))
    assert len(images) == 36
    for row in (0, 7, 35):
        assert torch.equal(whole.images[row], images[row].images[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_line(table: pd.DataFrame, workers: int) -> None:
    damaged = table.assign(length=table["length"].where(table.index != 1, table["length"] - 50))
    damaged.attrs = table.attrs
    batches = BatchLoader(image_set(damaged), [Request(0, [0]), Request(0, [1])], 1, workers)
    with pytest.raises(UndecodableImage, match=r"^ffhq/001.jpg in ffhq-00000.tar: .*$") as caught:
        list(batches)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_container_with_little_shared_memory_trains(table: pd.DataFrame) -> None:
    mount = "mount -t tmpfs -o size=128k none /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs unshare(1) and user namespaces")
    table.to_csv(table.attrs["root"] / "table.csv")
    command = f'{mount} && exec "$0" -c "$1" "$2"'
    batch = 36 * 64 * 64 * 3  # bytes: one of them alone does not fit
    assert batch > 128 << 10
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable, LOAD, table.attrs["root"]],
        cwd=ROOT,
        check=True,
    )


def test_a_worker_that_the_system_kills_is_named(table: pd.DataFrame) -> None:
    class Deadly(Augmentation):
        def __call__(self, image: RGBImage, epoch: int, key: int) -> Crops:
            if epoch:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(image, epoch, key)

    images = ImageSet(table, table.attrs["root"], Deadly(AUGMENT, VIEW, 0))
    with pytest.raises(InputError, match=r"has killed a process.*REAL_OR_GENERATED_WORKERS"):
        list(BatchLoader(images, [Request(1, [0])], 1, 1))


@given(rows=st.integers(1, 60), batch=st.integers(1, 20))
def test_consecutive_requests_take_every_row_once(rows: int, batch: int) -> None:
    requests = consecutive(rows, batch)
    assert [row for request in requests for row in request.rows] == list(range(rows))
    assert all(len(request.rows) == batch for request in requests[:-1])


def test_the_environment_sets_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", "0")
    assert default_workers() == 0
    for value in ("many", "-1", "257"):
        monkeypatch.setenv("REAL_OR_GENERATED_WORKERS", value)
        with pytest.raises(InputError, match=f"REAL_OR_GENERATED_WORKERS={value}: set it to"):
            default_workers()
    monkeypatch.delenv("REAL_OR_GENERATED_WORKERS")
    assert default_workers() >= 1
