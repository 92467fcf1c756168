"""Tests of src/metadata.py."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src import metadata
from src.core.cli import InputError
from src.core.files import read_json
from src.core.hashing import image_key
from src.core.tables import FAKE, REAL, read_table
from src.dataset import parallel
from src.dataset.columns import METADATA
from src.dataset.raw import ShardLimits, read_index, write_raw
from src.images.shards import ShardReader
from tests.helpers.make_data import encode, make_image

CUT = "damaged JPEG: image file is truncated (7 bytes not processed)"
NUMBERS = "metadata:\n  max_unreadable: {}\n  max_contradictions: {}\n  max_hash_distance: {}\n"


def write_images(
    root: Path, images: dict[str, bytes], groups: dict[str, str] | None = None
) -> Path:
    methods = [name.split("/")[0] for name in images]
    table = pd.DataFrame({"image_id": list(images), "method": methods})
    table["label"] = np.where(table["method"].str.startswith("gan"), FAKE, REAL)
    table["family"] = np.where(table["label"] == FAKE, "gan", "real")
    table["category"] = table["given_split"] = ""
    table["group"] = [(groups or {}).get(name, name) for name in images]
    provenance = dict.fromkeys(methods, ("made here", "1", "CC0-1.0"))
    write_raw(root, table, iter(images.values()), provenance, ShardLimits(4, 10**9))
    return root


def run_stage(
    raw: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_unreadable: int = 0,
    max_contradictions: int = 0,
    max_hash_distance: int = 4,
) -> pd.DataFrame:
    monkeypatch.chdir(raw.parent)
    Path("params.yaml").write_text(
        NUMBERS.format(max_unreadable, max_contradictions, max_hash_distance)
    )
    metadata.main([str(raw), "metadata.csv", "metadata.parquet", "metrics.json"])
    return read_table(Path("metadata.csv"), METADATA).set_index("image_id")


PICTURES = {
    **{f"photos/{i}.jpg": encode(make_image(i)) for i in range(6)},
    **{f"gan/{i}.jpg": encode(make_image(100 + i, fake=True)) for i in range(5)},
}


def test_every_image_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run_stage(write_images(tmp_path / "raw", PICTURES), monkeypatch)
    assert set(table.index) == set(PICTURES)
    assert table.loc["gan/3.jpg", "key"] == image_key("gan/3.jpg")
    assert (table["group"] == table.index).all()
    assert (table[["width", "height"]] == 64).all(axis=None)
    assert (table["jpeg_quality"] == 92).all()
    reader = ShardReader(tmp_path / "raw")
    for row in table.itertuples():
        assert reader.read(row.shard, row.offset, row.length) == PICTURES[row.Index]  # type: ignore[arg-type,index]
    metrics = read_json(Path("metrics.json"))
    assert metrics["by_label"] == {"fake": 5, "real": 6}
    assert metrics["by_method"] == {"gan": {"fake": 5}, "photos": {"real": 6}}
    assert metrics["unreadable"] == {"count": 0, "reasons": {}}


def test_copies_share_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = make_image(7, fake=True)
    flat = np.full((64, 64, 3), 200, np.uint8)
    images = PICTURES | {
        "gan/again.jpg": PICTURES["photos/2.jpg"],
        "photos/saved.jpg": encode(picture, quality=95),
        "gan/saved.jpg": encode(picture, quality=70),
        "photos/white.png": encode(flat, "png"),
        "gan/white.png": encode(flat - 1, "png"),
    }
    raw = write_images(
        tmp_path / "raw", dict(sorted(images.items())), {"gan/0.jpg": "photos/4.jpg"}
    )
    groups = run_stage(raw, monkeypatch, max_contradictions=1)["group"]
    assert groups["gan/again.jpg"] == groups["photos/2.jpg"] == "gan/again.jpg"
    assert groups["gan/saved.jpg"] == groups["photos/saved.jpg"] == "gan/saved.jpg"
    assert groups["gan/0.jpg"] == groups["photos/4.jpg"] == "gan/0.jpg"
    assert groups["gan/white.png"] != groups["photos/white.png"]
    expected = {
        "count": 13,
        "largest": 2,
        "merged_by_duplicates": 2,
        "exact_copies": 1,
        "without_hash": 2,
    }
    assert read_json(Path("metrics.json"))["groups"] == expected


def test_unreadable_images_stop_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_images(tmp_path / "raw", PICTURES | {"gan/bad.jpg": b"no image"})
    with pytest.raises(InputError, match=r"1 of 12 .*max_unreadable = 0.*gan/bad.jpg \(unknown"):
        run_stage(raw, monkeypatch)
    assert not Path("metadata.csv").exists()


def test_few_unreadable_images_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_images(tmp_path / "raw", PICTURES | {"gan/cut.jpg": PICTURES["gan/0.jpg"][:-99]})
    table = run_stage(raw, monkeypatch, max_unreadable=1)
    assert set(table.index) == set(PICTURES)
    unreadable = read_json(Path("metrics.json"))["unreadable"]
    assert unreadable == {"count": 1, "reasons": {"gan/cut.jpg": CUT}}


def test_nothing_readable_is_an_error_whatever_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="2 of 2 images do not decode"):
        run_stage(write_images(tmp_path / "raw", {"a/1": b"1", "a/2": b"2"}), monkeypatch, 9)


def test_bytes_that_the_index_does_not_describe(tmp_path: Path) -> None:
    raw = write_images(tmp_path / "raw", PICTURES)
    index = read_index(raw)
    index.loc[3, "sha256"] = "0" * 64
    name = index["image_id"][3]
    with pytest.raises(InputError, match=f"the bytes of {name} are not those"):
        metadata.measure_images(index, ShardReader(raw))


def test_number_of_processes_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_images(tmp_path / "raw", PICTURES)
    monkeypatch.setattr(parallel, "_IMAGES_AT_ONCE", 3)
    run_stage(raw, monkeypatch)
    alone = Path("metadata.csv").read_bytes()
    monkeypatch.setattr(parallel, "_BYTES_PER_WORKER", 1)
    run_stage(raw, monkeypatch)
    assert Path("metadata.csv").read_bytes() == alone


@pytest.mark.parametrize(("value", "key"), [(-1, "max_unreadable"), (9, "max_hash_distance")])
def test_parameters_out_of_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: int, key: str
) -> None:
    with pytest.raises(InputError, match=rf"metadata.{key} = {value}"):
        run_stage(tmp_path / "raw", monkeypatch, **{key: value})


def test_the_same_bytes_as_real_and_as_fake_stop_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"gan/x.jpg": PICTURES["photos/3.jpg"], "gan/y.jpg": PICTURES["photos/3.jpg"]}
    copies = {"photos/copy.jpg": PICTURES["photos/1.jpg"], "gan/copy.jpg": PICTURES["gan/1.jpg"]}
    raw = write_images(tmp_path / "raw", dict(sorted((PICTURES | copies | same).items())))
    message = r"1 images .*gan/x.jpg = photos/3.jpg; metadata.max_contradictions = 0: remove"
    with pytest.raises(InputError, match=message):
        run_stage(raw, monkeypatch)
    assert not Path("metadata.csv").exists()
    run_stage(raw, monkeypatch, max_contradictions=1)
    found = read_json(Path("metrics.json"))["contradictions"]
    assert found == {"count": 1, "first": {"gan/x.jpg": "photos/3.jpg"}}


def test_copies_with_one_label_contradict_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {"photos/copy.jpg": PICTURES["photos/1.jpg"], "gan/copy.jpg": PICTURES["gan/1.jpg"]}
    run_stage(
        write_images(tmp_path / "raw", dict(sorted((PICTURES | copies).items()))), monkeypatch
    )
    assert read_json(Path("metrics.json"))["contradictions"] == {"count": 0, "first": {}}
