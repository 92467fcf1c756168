"""The stage: what it asks of the sources, and data/raw, whole or absent whatever happens."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from src import download
from src.command import InputError
from src.download import build_sources, fetched, main
from src.raw import read_index, read_manifest
from src.shards import ShardReader
from src.sources.several import Sources
from tests.make_data import METHODS, make_artifact_folder, make_class_folder
from tests.slow_source import is_kept, read_journal, start_download

ROOT = Path(__file__).parents[1]
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
        build_sources("artefact", "")


def test_each_source_needs_an_origin() -> None:
    with pytest.raises(InputError, match=r"download\.origin has 1 elements for 2 of .*source"):
        build_sources(["folder", "folder"], "images")


def test_a_source_that_yields_another_image_is_a_bug(images: Path) -> None:
    sources = Sources(build_sources("folder", str(images)))
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
    with pytest.raises(
        InputError, match=r"2 of 16 images cannot be had, and .*max_missing = 1; .*"
    ):
        main(["raw"])
    assert not (tmp_path / "raw").exists()
    write_params(tmp_path, folder, max_missing=2)
    main(["raw"])
    gone = ["ffhq/images/img000002.jpg", "glide/images/img000001.jpg"]
    assert sorted(read_manifest(tmp_path / "raw").missing) == gone
    assert all(f"{name}: not below" in caplog.text for name in gone)
    assert len(read_index(tmp_path / "raw")) == 14


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
    assert lines[-1].startswith("8 real and 8 fake images; to be fetched: ")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def run_stage(folder: Path, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the stage in a process of its own, `before` first."""
    program = f"{before}\nfrom src import command, download\ncommand.run(download.main)\n"
    return subprocess.run(
        [sys.executable, "-c", program, "data/raw"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


KILL = """
import os, signal
from src import {module}
original, calls = {module}.{name}, 0
def count(*args):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
{module}.{name} = count
"""


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_params(folder, images)
    assert run_stage(folder).returncode == 0
    return contents(folder / "data/raw")


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [("raw", "write_shard", 2), ("raw", "write_table", 5), ("raw", "write_json", 1)],
)
def test_a_run_after_one_that_was_killed_gives_the_same_bytes(
    images: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    module: str,
    name: str,
    call: int,
) -> None:
    write_params(tmp_path, images)
    killed = run_stage(tmp_path, KILL.format(module=module, name=name, call=call))
    assert killed.returncode == -9
    assert not (tmp_path / "data/raw").exists()
    assert run_stage(tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]
    assert contents(tmp_path / "data/raw") == undisturbed


def run_to_the_end(folder: Path, cache: str) -> None:
    process = start_download(folder, cache)
    process.join()
    assert process.exitcode == 0


def test_killed_ten_times_it_ends_as_if_never_and_fetches_nothing_twice(
    images: Path, tmp_path: Path
) -> None:
    write_params(tmp_path, images, source="slow", images_per_method=10)
    rng = random.Random(0)
    ready: list[tuple[set[str], int]] = []  # what is kept after each kill, and fetched until then
    for _ in range(10):
        begun = len(read_journal(tmp_path))
        process = start_download(tmp_path, "cache")
        while len(read_journal(tmp_path)) == begun and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "data/raw").exists()
        journal = read_journal(tmp_path)
        kept = {image_id for image_id in journal if is_kept(image_id, tmp_path / "cache")}
        ready.append((kept, len(journal)))
    run_to_the_end(tmp_path, "cache")
    interrupted = contents(tmp_path / "data/raw")

    journal = read_journal(tmp_path)
    assert len(set(journal)) == 40
    assert 0 < len(ready[-1][0]) < 40, "the kills were too early or too late"
    for kept, fetched_before in ready:
        assert not kept & set(journal[fetched_before:])

    run_to_the_end(tmp_path, "another cache")
    assert contents(tmp_path / "data/raw") == interrupted


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images)
    # The kernel refuses to let any file grow beyond this: a full disk that needs no privileges.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))"
    done = run_stage(tmp_path, limit)
    assert done.returncode == 1
    assert "error: " in done.stderr.splitlines()[-1]
    assert ".tar" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_a_full_disk_does_not_touch_what_was_there(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, images_per_method=2)
    assert run_stage(tmp_path).returncode == 0
    before = contents(tmp_path / "data/raw")
    write_params(tmp_path, images)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))"
    assert run_stage(tmp_path, limit).returncode == 1
    assert contents(tmp_path / "data/raw") == before


def test_bad_parameters_are_one_line(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, images_per_method=0)
    done = run_stage(tmp_path)
    assert done.returncode == 1
    assert "download.images_per_method = 0: Input should be greater than 0" in done.stderr
    assert "Traceback" not in done.stderr


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
