"""Tests of the smaller data sets: cifake, faces140k, ciplab."""

import os
from pathlib import Path

import pytest

from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources import cifake, ciplab, faces140k
from src.sources.local import cache
from tests.helpers.make_artifact import image, zip_of
from tests.helpers.servers import Kaggle, Server
from tests.sources.origins.test_origins import unpack

CIFAKE = [
    f"{split}/{folder}/{number:04d}{suffix}.jpg"
    for split in ("train", "test")
    for folder in ("REAL", "FAKE")
    for number in (0, 1)
    for suffix in ("", " (2)", " (10)")
]
FACES = ["00001.jpg", "00002.jpg"]
CIPLAB = [
    "real_and_fake_face/training_real/real_00001.jpg",
    "real_and_fake_face/training_fake/easy_1_1111.jpg",
    "real_and_fake_face/training_fake/mid_2_0010.jpg",
    "real_and_fake_face/training_fake/hard_3_1001.jpg",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


def real_images(name: str) -> Path:
    root = Path(os.environ.get("REAL_IMAGES", "../shared/data")) / name
    if not root.is_dir():
        pytest.skip(f"no {root}: set REAL_IMAGES")
    return root


def test_cifake(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: image(name) for name in CIFAKE}
    with Server(Kaggle(zip_of(files))) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
        source = cifake.build("kaggle://owner/name/versions/3")
        images = source.catalogue().set_index("image_id")
        assert len(images) == len(CIFAKE)
        row = images[["label", "category", "given_split"]].loc["cifake/test/0001 (10).jpg"]
        assert list(row) == [FAKE, "truck", "test"]
        row = images[["label", "category", "family"]].loc["cifar10/train/0000.jpg"]
        assert list(row) == [REAL, "airplane", "real"]
        found = dict(source.fetch(images.reset_index()))
        assert found["cifar10/train/0000.jpg"] == files["train/REAL/0000.jpg"]


def faces(label_of_real: int = 1) -> dict[str, bytes]:
    files = {}
    for part in ("train", "valid", "test"):
        lines = [",original_path,id,label,label_str,path"]
        for folder in ("real", "fake"):
            for name in FACES:
                label = label_of_real if folder == "real" else 1 - label_of_real
                lines.append(f"0,{name},1,{label},{folder},{part}/{folder}/{name}")
                path = f"real_vs_fake/real-vs-fake/{part}/{folder}/{name}"
                files[path] = image(path)
        files[f"{part}.csv"] = "\n".join([*lines, ""]).encode()
    return files


def test_faces140k(tmp_path: Path) -> None:
    files = faces()
    source = faces140k.build(str(unpack(tmp_path, files)))
    images = source.catalogue()
    assert images.groupby(["given_split", "label"]).size().to_list() == [2] * 6
    assert set(images["given_split"]) == {"train", "val", "test"}
    assert set(images.loc[images["label"] == REAL, "method"]) == {"faces140k_ffhq"}
    for image_id, content in source.fetch(images):
        assert content == files["real_vs_fake/real-vs-fake/" + image_id.partition("/")[2]]


def test_faces140k_that_contradicts_itself(tmp_path: Path) -> None:
    # Somebody has "mended" the labels: 0 is real there now, and everything else says otherwise.
    with pytest.raises(InputError, match="contradict"):
        faces140k.build(str(unpack(tmp_path, faces(label_of_real=0))))


def test_ciplab(tmp_path: Path) -> None:
    source = ciplab.build(str(unpack(tmp_path, {name: image(name) for name in CIPLAB})))
    images = source.catalogue().set_index("method")
    assert images["label"].to_dict() == {
        "ciplab_real": REAL,
        "ciplab_easy": FAKE,
        "ciplab_mid": FAKE,
        "ciplab_hard": FAKE,
    }
    assert images["edited_parts"].to_dict() == {
        "ciplab_real": "",
        "ciplab_easy": "left eye, right eye, nose, mouth",
        "ciplab_mid": "nose",
        "ciplab_hard": "left eye, mouth",
    }


@pytest.mark.parametrize("source", [cifake, faces140k, ciplab])
def test_another_layout_is_named(tmp_path: Path, source: object) -> None:
    with pytest.raises(InputError, match="not laid out as expected"):
        source.build(str(unpack(tmp_path, {"a/b.jpg": b"1"})))  # type: ignore[attr-defined]


def test_real_faces140k() -> None:
    images = faces140k.build(str(real_images("faces140k-mini"))).catalogue()
    counts = images.groupby(["given_split", "label"]).size().to_dict()
    assert counts["train", REAL] == counts["train", FAKE] == 140
    assert (images["member"] >= 0).all()


def test_real_ciplab() -> None:
    images = ciplab.build(str(real_images("ciplab-mini"))).catalogue()
    assert images.groupby("label").size().to_dict() == {REAL: 120, FAKE: 120}


@pytest.mark.parametrize("copy", ["inside/", "real_and_fake_face_detection/deep/"])
def test_ciplab_twice_in_one_download(tmp_path: Path, copy: str) -> None:
    files = {name: image(name) for name in CIPLAB}
    source = ciplab.build(str(unpack(tmp_path, files | {copy + n: c for n, c in files.items()})))
    assert source.catalogue()["image_id"].is_unique
    assert len(source.catalogue()) == len(CIPLAB)
    assert sorted(content for _, content in source.fetch(source.catalogue())) == sorted(
        files.values()
    )


def test_cifake_twice_beside_itself_counts_once(tmp_path: Path) -> None:
    files = {name: image(name) for name in CIFAKE}
    twice = {top + name: c for top in ("a/", "b/") for name, c in files.items()}
    assert len(cifake.build(str(unpack(tmp_path, twice))).catalogue()) == len(CIFAKE)
    (tmp_path / "b" / CIFAKE[0]).write_bytes(b"another")
    with pytest.raises(InputError, match="is in b/ and elsewhere, with another size"):
        cifake.build(str(tmp_path))
