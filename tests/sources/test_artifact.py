import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from src.core import hashing
from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources import artifact
from src.sources.local import cache
from src.sources.shared.known_methods import METHODS
from src.sources.shared.origin_source import OriginSource
from tests.helpers.make_artifact import TARGETS, expected_labels, in_mirror, make_artifact, zip_of
from tests.helpers.servers import Kaggle, Server, serving
from tests.sources.origins.test_origins import unpack


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def served() -> Iterator[tuple[dict[str, bytes], Server, str]]:
    """The files, a server of their zip, and its URL."""
    files = make_artifact("ArtiFact/")
    with serving({"x.zip": zip_of(files)}) as server:
        yield files, server, f"{server.url}/x.zip"


def contents(source: OriginSource, images: pd.DataFrame) -> dict[str, bytes]:
    return dict(source.fetch(images))


def test_every_image_has_its_own_label_and_its_own_bytes(
    served: tuple[dict[str, bytes], Server, str],
) -> None:
    files, _, url = served
    source = artifact.build(url)
    images = source.catalogue()
    assert dict(zip(images["image_id"], images["label"], strict=True)) == expected_labels()
    assert source.prepare(images) == {}
    found = contents(source, images)
    assert found == {image_id: files[f"ArtiFact/{image_id}"] for image_id in expected_labels()}
    by_method = images.groupby("method")["label"].agg(lambda labels: sorted(set(labels)))
    assert by_method["cycle_gan"] == by_method["pro_gan"] == [REAL, FAKE]
    assert by_method["sfhq"] == [FAKE]
    assert set(images["category"]) == {"face, or not"}
    real = images["label"] == REAL
    assert set(images.loc[real, "family"]) == {"real"}
    assert images.loc[~real].groupby("method")["family"].first().to_dict() == {
        method: METHODS[method].family for method in TARGETS if method != "coco"
    }
    assert source.provenance.licences["stylegan2"] == METHODS["stylegan2"].licence
    assert source.provenance.origin == url


@pytest.mark.parametrize("layout", ["loose", "zip", "mirror", "kaggle"])
def test_the_catalogue_is_the_same_wherever_it_is(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_artifact()
    expected = artifact.build(str(unpack(tmp_path / "expected", files))).catalogue()
    if layout == "loose":
        images = artifact.build(str(unpack(tmp_path / "x", make_artifact("a/b/")))).catalogue()
    elif layout in ("zip", "mirror"):
        (tmp_path / "x.zip").write_bytes(zip_of(in_mirror(files) if layout == "mirror" else files))
        images = artifact.build(str(tmp_path / "x.zip")).catalogue()
    else:
        with Server(Kaggle(zip_of(files))) as server:
            monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
            source = artifact.build("kaggle://owner/name/versions/3")
            images = source.catalogue()
            some = images.groupby("method").head(2)
            assert source.prepare(some) == {}
            assert contents(source, some) == {i: files[i] for i in some["image_id"]}
    columns = [name for name in expected if name != "member"]
    order = ["image_id"]
    pd.testing.assert_frame_equal(
        images[columns].sort_values(order, ignore_index=True),
        expected[columns].sort_values(order, ignore_index=True),
    )


def test_nothing_is_fetched_twice(served: tuple[dict[str, bytes], Server, str]) -> None:
    _, server, url = served
    source = artifact.build(url)
    images = source.catalogue()
    order = images.iloc[hashing.image_keys(images["image_id"]).argsort()]
    source.prepare(order[:10])
    sent = server.bytes_sent
    again = artifact.build(url)
    assert again.plan(order[:10]).transfer == 0
    assert again.prepare(order[:10]) == {}
    contents(again, order[:10])
    # One byte says whether the archive has changed; one came along with where redirects end.
    assert server.bytes_sent <= sent + 2
    plan = again.plan(order[:20])
    assert plan.kept.sum() == 10
    again.prepare(order[:20])
    assert server.bytes_sent - sent <= plan.transfer + 2


KILLED = """
import os, signal, sys
from src.sources import artifact
from src.sources.local import packs
from src.sources.origins import in_flight
from src.sources.shared import origin_source
put, count = packs.Packs.put, iter(range(1000))

def put_and_die(self, entries):
    put(self, entries)
    if next(count) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

source = artifact.build(sys.argv[1])
packs.Packs.put = put_and_die
in_flight.MAX_RUN = origin_source._TOGETHER = 1
source.prepare(source.catalogue())
"""


@pytest.mark.parametrize("after", [0, 7, 20])
def test_a_killed_fetch_goes_on(served: tuple[dict[str, bytes], Server, str], after: int) -> None:
    files, _, url = served
    done = subprocess.run([sys.executable, "-c", KILLED, url, str(after)], check=False)
    assert done.returncode == -signal.SIGKILL
    source = artifact.build(url)
    images = source.catalogue()
    assert source.plan(images).kept.sum() == after + 1
    assert source.prepare(images) == {}
    assert contents(source, images) == {i: files[f"ArtiFact/{i}"] for i in images["image_id"]}


def test_a_plan_says_what_it_takes(served: tuple[dict[str, bytes], Server, str]) -> None:
    source = artifact.build(served[2])
    images = source.catalogue()
    plan = source.plan(images)
    assert not plan.kept.any()
    assert plan.bytes.tolist() == [896] * len(images)
    assert plan.transfer <= 1.3 * plan.bytes.sum()
    assert plan.requests >= 1
    assert plan.seconds == 0, "tables alone say nothing"
    assert plan.remote


def test_a_plan_expects_what_the_last_fetch_of_images_reached() -> None:
    with serving({"x.zip": zip_of(make_artifact(times=30))}) as server:
        url = f"{server.url}/x.zip"
        images = artifact.build(url).catalogue().sample(frac=1, random_state=0)
        began = time.monotonic()
        artifact.build(url).prepare(images[:200])
        took = time.monotonic() - began
        plan = artifact.build(url).plan(images[200:400])
        assert plan.requests > 50
        assert 0.1 * took < plan.seconds < 3 * took


def test_missing_images_are_reported_not_raised(tmp_path: Path) -> None:
    files = make_artifact()
    gone, broken = "coco/part0/img000000.jpg", "coco/part1/img000001.jpg"
    content = files.pop(gone)
    data = zip_of(files)
    at = data.index(files[broken])
    (tmp_path / "x.zip").write_bytes(data[:at] + content[:8] + data[at + 8 :])
    source = artifact.build(str(tmp_path / "x.zip"))
    images = source.catalogue()
    missing = source.prepare(images)
    assert missing.keys() == {gone, broken}
    assert missing[gone] == "listed, but not there"
    assert "wrong CRC-32" in missing[broken]
    left = images[~images["image_id"].isin(missing)]
    assert contents(source, left).keys() == set(left["image_id"])
    for image_id in missing:
        with pytest.raises(InputError, match=image_id):
            contents(source, images[images["image_id"] == image_id])


def table(*rows: str) -> bytes:
    return "\n".join(["filename,image_path,target,category", *rows, ""]).encode()


@pytest.mark.parametrize(
    ("method", "rows", "message"),
    [
        ("coco", ["a,a.jpg,1,x"], "'a.jpg' has target 1, but coco is known as real"),
        ("sfhq", ["a,a.jpg,0,x"], "'a.jpg' has target 0, but sfhq is known as fake"),
        ("pro_gan", ["a,a.jpg,0,x", "a,a.jpg,2,x"], "'a.jpg' is listed both as real and as fake"),
        ("coco", ["a,a.jpg,,x"], "coco/metadata.csv: target '' in line 2 is no whole number"),
        ("coco", ["a,a.jpg,-1,x"], "target -1 is no class"),
        ("coco", ["a,../b/a.jpg,0,x"], "leads out of the data set"),
        ("coco", ["a,/a.jpg,0,x"], "leads out of the data set"),
        ("coco", ["a,none/a.jpg,0,x"], "is there neither below the folder"),
    ],
)
def test_contradictions_are_named(
    tmp_path: Path, method: str, rows: list[str], message: str
) -> None:
    files = {"coco/a.jpg": b"1", "pro_gan/a.jpg": b"2", "sfhq/a.jpg": b"3"}
    listing = {f"{method}/metadata.csv": table(*rows)}
    with pytest.raises(InputError, match=message):
        artifact.build(str(unpack(tmp_path, files | listing)))


@pytest.mark.parametrize("column", ["image_path", "target", "category"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    listing = table("a,a.jpg,0,x").replace(column.encode(), b"other")
    files = {"coco/a.jpg": b"1", "coco/metadata.csv": listing}
    with pytest.raises(InputError, match=rf"coco/metadata\.csv: column missing: .*{column}"):
        artifact.build(str(unpack(tmp_path, files)))


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n"])
def test_an_empty_table_is_called_empty(tmp_path: Path, content: bytes) -> None:
    files = {"coco/a.jpg": b"1", "coco/metadata.csv": content}
    with pytest.raises(InputError, match=r"coco/metadata\.csv: it is empty; fetch it again"):
        artifact.build(str(unpack(tmp_path, files)))


def test_repeated_rows_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listing = {"coco/metadata.csv": table("a,a.jpg,0,x", "a,a.jpg,0,x")}
    with caplog.at_level(logging.WARNING):
        source = artifact.build(str(unpack(tmp_path, {"coco/a.jpg": b"1"} | listing)))
    assert len(source.catalogue()) == 1
    assert "1 rows repeat others" in caplog.text


def test_the_whole_of_it_is_compared_with_what_was_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "METHODS", {name: METHODS[name] for name in TARGETS})
    for counts in ({REAL: 11, FAKE: 22}, {REAL: 9, FAKE: 22}):
        monkeypatch.setattr(artifact, "IMAGES", counts)
        with caplog.at_level(logging.WARNING):
            artifact.build(str(unpack(tmp_path / "x", make_artifact())))
        said = "x: lists 11 real images, ArtiFact has 9" in caplog.text
        assert said == (counts[REAL] == 9)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (make_artifact("a/") | make_artifact("b/"), "a/, b/; move"),
        (make_artifact("a/") | {"x.zip": zip_of(make_artifact())}, r"\. of x\.zip, a/; move"),
        (make_artifact("Real/") | make_artifact("Fake/"), "Fake/coco/, .*Real/stylegan2/; move"),
    ],
)
def test_metadata_in_two_places_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(InputError, match=f"below more than one folder: {message}"):
        artifact.build(str(unpack(tmp_path, files)))


def test_a_folder_in_another_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not laid out as expected: <method>/metadata\.csv"):
        artifact.build(str(unpack(tmp_path, {"real/a.jpg": b"1"})))


def test_paths_from_the_root_are_those_of_no_other_method(tmp_path: Path) -> None:
    listing = {"coco/metadata.csv": table("a,other/a.jpg,0,x")}
    files = {"coco/a.jpg": b"1", "other/a.jpg": b"2"} | listing
    with pytest.raises(InputError, match=r"'other/a.jpg' of coco is in no method's folder"):
        artifact.build(str(unpack(tmp_path, files)))


@pytest.mark.parametrize("name", ["artifact-mini"])
def test_real_images(name: str) -> None:
    root = Path(os.environ.get("REAL_IMAGES", "../shared/data")) / name
    if not root.is_dir():
        pytest.skip(f"no {root}: set REAL_IMAGES")
    source = artifact.build(str(root))
    images = source.catalogue()
    assert images.groupby("method").size().to_dict() == {
        "ffhq": 800,
        "imagenet": 581,
        "stable_diffusion": 600,
        "stylegan1": 800,
    }
    assert images.groupby("method")["label"].first().to_dict() == {
        "ffhq": REAL,
        "imagenet": REAL,
        "stable_diffusion": FAKE,
        "stylegan1": FAKE,
    }
    assert source.prepare(images) == {}
    assert all(content.startswith(b"\xff\xd8") for _, content in source.fetch(images.iloc[::50]))


PLAIN = "filename,image_path,target,category\na,images/a.jpg,6,human face\nb,images/b.jpg,0,a cat\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.replace("/", "\\").encode(),
        PLAIN.replace("images/", "./images//").encode(),
        PLAIN.replace(",6,", ",6.0,").replace(",0,", ", 0. ,").encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        PLAIN.replace("image_path,target", ' "Image_Path" , TARGET').encode(),
    ],
    ids=["plain", "backslash", "dots", "floats", ";", "tab", "utf-16", "windows", "heads"],
)
def test_a_table_as_users_edit_it(tmp_path: Path, content: bytes) -> None:
    files = {"new/metadata.csv": content, "new/images/a.jpg": b"1", "new/images/b.jpg": b"2"}
    images = artifact.build(str(unpack(tmp_path, files))).catalogue().set_index("image_id")
    assert images["label"].to_dict() == {"new/images/a.jpg": FAKE, "new/images/b.jpg": REAL}
    assert images["category"].to_list() == ["human face", "a cat"]
    assert (images["member"] >= 0).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            PLAIN.replace("target", "labels"),
            "missing: target; found filename, image_path, lab",
        ),
        (PLAIN.replace(",6,", ",6.5,"), r"target '6\.5' in line 2 is no whole number"),
        (PLAIN.replace(",0,", ",real,"), r"target 'real' in line 3 is no whole number"),
        (PLAIN.replace("images/b", "C:/b"), r"image_path 'C:/b.jpg' in line 3 leads out"),
    ],
)
def test_a_table_that_is_ambiguous_is_refused(tmp_path: Path, content: str, message: str) -> None:
    files = {"new/metadata.csv": content.encode(), "new/images/a.jpg": b"1"}
    with pytest.raises(InputError, match=message):
        artifact.build(str(unpack(tmp_path, files)))
