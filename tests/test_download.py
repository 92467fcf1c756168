"""The stage: what it asks of the sources, and data/raw, whole or absent whatever happens."""

import io
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src import download
from src.core.cli import InputError
from src.dataset.manifest import read_manifest
from src.dataset.raw import read_index
from src.download import fetched, main
from src.images.shards import ShardReader
from src.sources.folder import CLASS_NAMES
from src.sources.local.cache import CACHE_VARIABLE, Cache
from src.sources.origins import open_origin
from src.sources.origins.in_flight import IN_FLIGHT
from src.sources.shared.combined import Sources
from src.sources.shared.registry import build_sources
from tests.helpers import ROOT
from tests.helpers.make_artifact import in_mirror, make_artifact, tar_of, zip_of
from tests.helpers.make_data import METHODS, make_artifact_folder, make_class_folder
from tests.helpers.servers import Answer, Request, Server, part_of, serving
from tests.helpers.stage_process import start_download

REAL_IMAGES = Path(os.environ.get("REAL_IMAGES", ROOT.parent / "shared" / "data"))

PARAMS: Mapping[str, Any] = {
    "source": "folder",
    "methods": None,
    "categories": None,
    "allow_licences": None,
    "images_per_method": 8,
    "balance_classes": False,
    "max_missing": 0,
    "shard_images": 4,
    "shard_megabytes": 256,
    "real_names": ("real",),
    "fake_names": ("fake",),
    "seed": 0,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact_folder(tmp_path_factory.mktemp("data") / "images", 10, 32)


def write_params(folder: Path, origin: Path | list[str], **changes: Any) -> None:
    # JSON is YAML.
    asked = {**PARAMS, "origin": origin if isinstance(origin, list) else str(origin), **changes}
    (folder / "params.yaml").write_text(json.dumps({"download": asked}))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"download\.source: 'artefact' is unknown; .*'folder'"):
        build_sources("artefact", "", CLASS_NAMES, download=True)


def test_each_source_needs_an_origin() -> None:
    with pytest.raises(InputError, match=r"download\.origin has 1 elements for 2 of .*source"):
        build_sources(["folder", "folder"], "images", CLASS_NAMES, download=True)


def test_a_source_that_yields_another_image_is_a_bug(images: Path) -> None:
    sources = Sources(build_sources("folder", str(images), CLASS_NAMES, download=True))
    drawn = sources.catalogue().head(2)
    with pytest.raises(AssertionError, match="the source yields"):
        list(fetched(_Reversed(sources), drawn))


class _Reversed(Sources):
    def __init__(self, sources: Sources) -> None:
        self._wrapped = sources

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        return self._wrapped.fetch(images[::-1])


def test_the_stage_writes_what_was_drawn(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, images, images_per_method=12)
    main(["data/raw"])
    index = read_index(tmp_path / "data/raw")
    assert dict(index.groupby("method").size()) == dict.fromkeys(METHODS, 10)
    assert "fewer than images_per_method = 12: ffhq 10 real, glide 10 fake" in caplog.text
    reader = ShardReader(tmp_path / "data/raw")
    first = index.iloc[0]
    data = reader.read(str(first["shard"]), int(first["offset"]), int(first["length"]))
    assert data == (images / str(first["image_id"])).read_bytes()
    methods = read_manifest(tmp_path / "data/raw").methods
    assert {(m.origin, m.real + m.fake) for m in methods.values()} == {("images", 10)}
    for data in contents(tmp_path / "data/raw").values():
        assert os.fsencode(images) not in data


def test_a_larger_draw_rewrites_only_the_last_shard_of_a_method(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in (6, 9):
        write_params(tmp_path, images, images_per_method=n)
        main([f"raw{n}"])
    small, large = contents(tmp_path / "raw6"), contents(tmp_path / "raw9")
    changed = {name for name in small if name.endswith(".tar") and small[name] != large[name]}
    assert {name.split("-")[-1] for name in changed} == {"00001.tar"}
    assert len(changed) == len(METHODS)


def test_several_sources_make_one_index(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = make_class_folder(tmp_path / "tree", 5, 16)
    write_params(tmp_path, [str(images), str(tree)], source=["folder", "folder"])
    main(["raw"])
    found = read_index(tmp_path / "raw").groupby("method").size()
    assert dict(found) == {**dict.fromkeys(METHODS, 8), "real": 5, "fake": 5}
    origins = {m: found.origin for m, found in read_manifest(tmp_path / "raw").methods.items()}
    assert origins == {**dict.fromkeys(METHODS, "images"), "real": "tree", "fake": "tree"}


def test_images_that_are_gone_stop_the_stage_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_artifact_folder(tmp_path / "images", 4, 16)
    for name in ("glide/images/img000001.jpg", "ffhq/images/img000002.jpg"):
        (folder / name).unlink()
    write_params(tmp_path, folder, max_missing=1)
    with pytest.raises(InputError, match=r"2 of 16 images are missing, and .*max_missing = 1; .*"):
        main(["raw"])
    assert not (tmp_path / "raw").exists()
    write_params(tmp_path, folder, max_missing=2)
    main(["raw"])
    gone = ["ffhq/images/img000002.jpg", "glide/images/img000001.jpg"]
    assert sorted(read_manifest(tmp_path / "raw").missing) == gone
    assert all(f"{name}: listed, but not there" in caplog.text for name in gone)
    assert len(read_index(tmp_path / "raw")) == 14


def test_what_is_listed_but_not_there_is_said_before_anything_is_fetched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "cache")
    files = {k: v for k, v in make_artifact().items() if "part1/" not in k or "stylegan2" in k}
    with serving({"x.zip": zip_of(files)}) as server:
        asked = {"source": ["artifact"], "images_per_method": 100}
        write_params(tmp_path, [f"{server.url}/x.zip"], **asked)
        main(["--plan"])
        said = "12 of the 33 images are listed, but not there, more than download.max_missing = 0"
        assert said in capsys.readouterr().out
        sent = server.bytes_sent
        with pytest.raises(InputError, match="12 of 33 images are missing"):
            main(["raw"])
        assert server.bytes_sent < sent + 10
        write_params(tmp_path, [f"{server.url}/x.zip"], max_missing=12, **asked)
        caplog.clear()
        main(["raw"])
    assert sum("listed, but not there" in line for line in caplog.messages) == 10
    assert "and 2 more are missing" in caplog.messages
    assert len(read_manifest(tmp_path / "raw").missing) == 12


def test_the_plan_is_printed_and_nothing_is_written(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, images, methods=["ffhq", "gan"])
    main(["--plan"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["method", "ffhq", "stylegan2", "all"]
    assert re.fullmatch(
        r"8 real and 8 fake images; 0\.0 MB are read from this machine\.", lines[-1]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        ("x.tar", r"a tar has no directory and is downloaded .* or put the images into a zip"),
        ("x.zip#whole", r"#whole in download\.origin has an archive .* or leave #whole out"),
    ],
)
def test_the_plan_says_which_archive_comes_first_and_downloads_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    archive: str,
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "cache")
    caplog.set_level(logging.INFO)
    files = make_artifact(times=16)
    with serving({"x.zip": zip_of(files), "x.tar": tar_of(files)}) as server:
        write_params(tmp_path, [f"{server.url}/{archive}"], source=["artifact"])
        file = archive.removesuffix("#whole")
        with pytest.raises(InputError, match=rf"/{file} \(0\.[5-9] MB\): {why}"):
            main(["--plan"])
        assert server.bytes_sent < 10
        assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
        main(["raw"])
        assert re.search(rf"/{file}: downloaded as a whole, 0\.[5-9] MB", caplog.text)
        main(["--plan"])  # of the copy


def test_the_hub_is_tried_again_and_the_error_is_one_line(tmp_path: Path) -> None:
    answers = iter([Answer(503), Answer(404, headers={"X-Error-Code": "EntryNotFound"})])
    with Server(lambda r: next(answers) if "x.zip" in r.path else Answer(404)) as server:
        write_params(tmp_path, ["hf://datasets/owner/name/x.zip"], source=["artifact"])
        done = subprocess.run(
            [sys.executable, "-m", "src.download", "--plan"],
            cwd=tmp_path,
            env={**os.environ, "HF_ENDPOINT": server.url, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert re.fullmatch(
        r"error: http.*/x\.zip: status 404; check its name, and if .* HF_TOKEN.*",
        done.stderr.splitlines()[-1],
    )


def test_what_a_library_says_of_each_retry_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = iter([Answer(200, b"{}", cut=0), Answer(404)])
    with Server(lambda _: next(answers)) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
        write_params(tmp_path, ["kaggle://owner/name"], source=["cifake"])
        with pytest.raises(InputError, match="no such data set"):
            main(["--plan"])
    assert len(server.requests) == 2
    assert not caplog.messages


def run_to_the_end(folder: Path, cache: str = "cache") -> dict[str, bytes]:
    process = start_download(folder, cache)
    process.join()
    assert process.exitcode == 0, (folder / "stderr").read_text()
    return contents(folder / "data/raw")


def run_in_vain(folder: Path, **how: Any) -> str:
    """Run the stage, which fails; return what it says last."""
    process = start_download(folder, **how)
    process.join()
    assert process.exitcode == 1
    said = (folder / "stderr").read_text()
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "call"), [("write_shard", 2), ("write_table", 5), ("write_json", 1)]
)
def test_a_run_after_one_that_was_killed_gives_the_same_bytes(
    images: Path, tmp_path: Path, name: str, call: int
) -> None:
    write_params(tmp_path, images)
    undisturbed = run_to_the_end(tmp_path)
    shutil.rmtree(tmp_path / "data")
    killed = start_download(tmp_path, "cache", die_in=(name, call))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "data/raw").exists()
    assert run_to_the_end(tmp_path) == undisturbed
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


class HaltingZip:
    """A zip on a web server that sends no image any more from one on that it was told."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
        self._begins = {info.filename: info.header_offset for info in infos}
        self._lock = threading.Lock()
        self._end = len(data)
        self._going = threading.Event()
        self.images = [name for name in self._begins if name.endswith(".jpg")]
        self.halted = threading.Event()
        self.sent: list[str] = []  # images, as often as they were

    def halt_at(self, image: str) -> None:
        """Let no request end that begins at `image` or behind it.

        Those before all end: the stage keeps what it reads in this order, so nothing that it
        was sent waits for what it was not.
        """
        self._end = self._begins[image]
        self.halted.clear()
        self._going.clear()

    def go(self) -> None:
        """Answer every request, those that wait first."""
        self._end = len(self._data)
        self._going.set()

    def __call__(self, request: Request) -> Answer:
        answer = part_of(self._data, request)
        begin = int(request.headers["range"].removeprefix("bytes=").split("-")[0])
        within = range(begin, begin + len(answer.body))
        images = [name for name in self.images if self._begins[name] in within]
        if images and len(answer.body) > 1:  # one byte alone asks how large the file is
            if begin >= self._end:
                self.halted.set()
                self._going.wait()  # whoever asked for it is dead by then
            else:
                with self._lock:
                    self.sent += images
        return answer


@pytest.mark.slow
def test_killed_ten_times_it_ends_as_if_never_and_fetches_nothing_twice(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    archive = HaltingZip(zip_of(in_mirror(make_artifact(times=16))))
    with Server(archive) as server:
        url = f"{server.url}/x.zip"
        write_params(tmp_path, [url], source=["artifact"], images_per_method=100)
        rng = random.Random(0)
        ready: list[tuple[set[str], int]] = []  # what is kept after a kill, and was sent until then
        here: set[str] = set()
        for kill in range(10):
            before = indexed(cache)
            surely = kill in (3, 6)  # twice, so many are sent that some have to be kept
            left = [image for image in archive.images if image not in here]
            archive.halt_at(left[IN_FLIGHT if surely else rng.randrange(3)])
            process = start_download(tmp_path, cache.name)
            assert archive.halted.wait(timeout=120)
            if surely:
                wait_for_more_in(cache, before)
            process.kill()
            process.join()
            archive.go()
            assert process.exitcode == -signal.SIGKILL
            assert not (tmp_path / "data/raw").exists()
            here = kept(url, cache)
            ready.append((here, len(archive.sent)))
        interrupted = run_to_the_end(tmp_path, cache.name)

        assert len(here) < len(archive.images), "the last kill was too late"
        for names, sent_before in ready:
            assert not names & set(archive.sent[sent_before:])
        assert run_to_the_end(tmp_path, "another cache") == interrupted


def wait_for_more_in(cache: Path, before: int) -> None:
    deadline = time.monotonic() + 120
    while indexed(cache) == before:
        assert time.monotonic() < deadline, "nothing was kept"
        time.sleep(0.02)


def indexed(cache: Path) -> int:
    """Return the size of the indices of what is kept; reading them asks the origin nothing."""
    return sum(path.stat().st_size for path in cache.rglob("*.index"))


def kept(url: str, folder: Path) -> set[str]:
    """Return the images in the archive that are in the cache."""
    cache = Cache(folder)
    origin = open_origin(url, cache)
    names = origin.names()
    assert names is not None
    keys = zip(names.to_pylist(), origin.keys(origin.find(names)), strict=True)
    return {name for name, key in keys if name.endswith(".jpg") and key in cache.packs}


@pytest.mark.parametrize("suffix", ["", "#whole"])
def test_a_full_disk_while_fetching_is_one_clear_error_and_no_loss(
    tmp_path: Path, suffix: str
) -> None:
    with serving({"x.zip": zip_of(make_artifact())}) as server:
        url = f"{server.url}/x.zip{suffix}"
        write_params(tmp_path, [url], source=["artifact"], images_per_method=100)
        said = run_in_vain(tmp_path, largest_file=9000)
        assert said.startswith(f"error: [Errno 27] File too large: '{tmp_path / 'cache'}")
        assert not (tmp_path / "data").exists()
        run_to_the_end(tmp_path)
    assert len(read_index(tmp_path / "data/raw")) == 33


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images)
    said = run_in_vain(tmp_path, largest_file=4000)
    assert said.startswith("error: ")
    assert ".tar" in said
    assert list((tmp_path / "data").iterdir()) == []


def test_a_full_disk_does_not_touch_what_was_there(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, images_per_method=2)
    before = run_to_the_end(tmp_path)
    write_params(tmp_path, images)
    run_in_vain(tmp_path, largest_file=4000)
    assert contents(tmp_path / "data/raw") == before


def test_bad_parameters_are_one_line(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, images_per_method=0)
    said = run_in_vain(tmp_path)
    assert "download.images_per_method = 0: Input should be greater than 0" in said


@pytest.mark.skipif(
    not (REAL_IMAGES / "artifact-mini").is_dir(),
    reason="real images: set REAL_IMAGES to a folder that holds artifact-mini",
)
def test_real_artifact_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, REAL_IMAGES / "artifact-mini", images_per_method=100)
    download.main(["raw"])
    counts = read_index(tmp_path / "raw").groupby(["method", "family"]).size()
    assert dict(counts) == {
        ("ffhq", "real"): 100,
        ("imagenet", "real"): 100,
        ("stable_diffusion", "diffusion"): 100,
        ("stylegan1", "gan"): 100,
    }
