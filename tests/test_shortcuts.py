"""Tests of src/shortcuts.py."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src import shortcuts
from src.core.cli import InputError
from src.core.files import read_json
from src.core.hashing import image_key
from src.core.params import load_params
from src.core.tables import FAKE, LABELS, REAL, write_table
from src.dataset.columns import METADATA, SPLIT_TABLE
from src.dataset.image_stats import measure
from src.images.shards import write_shard
from src.shortcuts import (
    ShortcutsParams,
    sample,
)
from tests.helpers.make_data import encode, make_image

IMAGES = 60  # of each class
NUMBERS = {"max_images": 1000, "folds": 3, "max_file_auroc": 0.7, "bootstrap_rounds": 50, "seed": 0}
PARAMS = ShortcutsParams(**NUMBERS)  # type: ignore[arg-type]


def plain(number: int, label: int) -> bytes:
    """Return an image that tells nothing of its class: size and quality vary alike in both."""
    rng = np.random.default_rng([number, label])
    picture = make_image(1000 * label + number, int(rng.integers(40, 70)))
    return encode(picture, quality=int(rng.integers(65, 100)))


def run_stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, int], bytes], limit: float
) -> None:
    """Write shards, metadata and split of the images that `make(number, label)` returns; run."""
    monkeypatch.chdir(folder)
    names = [(f"{LABELS[label]}/{i}", label) for label in (REAL, FAKE) for i in range(IMAGES)]
    contents = [make(int(name.split("/")[1]), label) for name, label in names]
    places = write_shard(
        Path("raw/s.tar"), ((name, c) for (name, _), c in zip(names, contents, strict=True))
    )
    table = pd.DataFrame([measure(content)._asdict() for content in contents])
    table["image_id"], table["label"] = zip(*names, strict=True)
    table["offset"], table["length"] = zip(*places, strict=True)
    table["method"] = table["family"] = table["label"].map({REAL: "real", FAKE: "other"})
    table["key"] = table["image_id"].map(image_key).astype("uint64")
    table = table.assign(
        group=table["image_id"], category="", shard="s.tar", sha256="", given_split=""
    )
    write_table(table, Path("metadata.csv"), METADATA)
    write_table(table.assign(split="train"), Path("splits.csv"), SPLIT_TABLE)
    numbers = NUMBERS | {"max_file_auroc": limit}
    Path("params.yaml").write_text(f"shortcuts: {numbers}\n".replace("'", ""))
    shortcuts.main(["metadata.csv", "splits.csv", "raw", "metrics.json", "passed"])


def test_alike_classes_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(tmp_path, monkeypatch, plain, 0.7)
    assert Path("passed").read_text().endswith("\n")
    metrics = read_json(Path("metrics.json"))
    assert metrics["images"] == metrics["groups"] == 2 * IMAGES
    assert set(metrics["auroc"]) == {"file_statistics", "mean_colour", "thumbnail", "spectrum"}
    for probe in metrics["auroc"].values():
        assert probe["low"] < probe["value"] < probe["high"]
        assert probe["value"] < 0.7


def other_quality(number: int, label: int) -> bytes:
    return encode(make_image(1000 * label + number), quality=80 + 10 * label)


def other_size(number: int, label: int) -> bytes:
    return encode(make_image(1000 * label + number, 48 + 16 * label), quality=80)


def other_format(number: int, label: int) -> bytes:
    return encode(make_image(1000 * label + number), ("jpeg", "webp")[label])


@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (other_quality, ["jpeg_quality"]),
        (other_size, ["width", "height"]),
        (other_format, ["format"]),
    ],
)
def test_a_leak_shuts_the_gate_and_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int, int], bytes],
    columns: list[str],
) -> None:
    (tmp_path / "passed").write_text("from an earlier run")
    with pytest.raises(InputError, match=r"above shortcuts.max_file_auroc = 0.7") as caught:
        run_stage(tmp_path, monkeypatch, make, 0.7)
    for column in columns:
        assert f"{column} 1.000" in str(caught.value)
    assert not Path("passed").exists()
    metrics = read_json(Path("metrics.json"))
    assert metrics["auroc"]["file_statistics"]["value"] == 1
    assert metrics["auroc_of_file_column"][columns[0]] == 1


def test_a_raised_limit_opens_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_stage(tmp_path, monkeypatch, other_quality, 1.0)
    assert Path("passed").exists()


def test_what_pixels_tell_is_reported_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tinted(number: int, label: int) -> bytes:
        # The tint is the same for both, but for the channel: the files are alike.
        picture = make_image(1000 * label + number).astype(int)
        picture[..., 2 * label] += 40
        return encode(picture.clip(0, 255).astype(np.uint8), "png")

    run_stage(tmp_path, monkeypatch, tinted, 0.7)
    auroc = read_json(Path("metrics.json"))["auroc"]
    assert auroc["mean_colour"]["low"] > 0.8
    assert auroc["thumbnail"]["low"] > 0.7


def test_metrics_are_the_same_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run_stage(tmp_path / name, monkeypatch, plain, 1.0)
        found.append(Path("metrics.json").read_bytes())
    assert found[0] == found[1]


def tables(reals: int, fakes: int, group_size: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [f"r/{i}" for i in range(reals)] + [f"f/{i}" for i in range(fakes)]
    groups = [f"{name[0]}{int(name[2:]) // group_size}" for name in names]
    splits = pd.DataFrame({"image_id": names, "label": [REAL] * reals + [FAKE] * fakes})
    return splits.assign(group=groups), pd.DataFrame({"image_id": names, "width": 1})


def test_the_sample_is_balanced_and_a_larger_one_contains_it() -> None:
    splits, statistics = tables(100, 50)
    small, large = (
        sample(splits, statistics, replace(PARAMS, max_images=size)) for size in (40, 60)
    )
    assert small["label"].value_counts().to_dict() == {REAL: 20, FAKE: 20}
    assert set(small["image_id"]) < set(large["image_id"])
    assert len(sample(splits, statistics, PARAMS)) == 100


def test_too_few_groups_are_named() -> None:
    with pytest.raises(InputError, match=r"shortcuts.folds = 3, but the fake images form only 2"):
        sample(*tables(50, 20, group_size=10), PARAMS)


def test_an_image_without_metadata_is_named() -> None:
    splits, statistics = tables(10, 10)
    with pytest.raises(InputError, match="f/9 is in the split but not in the metadata"):
        sample(splits, statistics[:-1], PARAMS)


@pytest.mark.parametrize("rounds", [0, 19, 100_001, 10**9, 2**63])
def test_rounds_beyond_reason_are_refused(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps({"shortcuts": NUMBERS | {"bootstrap_rounds": rounds}}))
    with pytest.raises(
        InputError, match=rf"shortcuts\.bootstrap_rounds = {rounds}: Input should be"
    ):
        load_params(ShortcutsParams, "shortcuts", path)
