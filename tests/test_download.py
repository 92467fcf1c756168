"""Which images are drawn, and that data/raw is whole or absent whatever happens."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src import download
from src.command import InputError
from src.download import build_source, draw, fetched, main
from src.raw import read_index, read_manifest
from src.schema import FAKE, REAL
from src.shards import ShardReader
from src.sources import Provenance
from tests.make_data import METHODS, make_artifact_folder

ROOT = Path(__file__).parents[1]
REAL_IMAGES = Path(os.environ.get("REAL_IMAGES", ROOT.parent / "shared" / "data"))

PARAMS = (
    "download: {{source: folder, origin: '{origin}', images_per_method: {n}, "
    "shard_images: {shard_images}, shard_megabytes: 256, seed: {seed}}}\n"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact_folder(tmp_path_factory.mktemp("data") / "images", 10, 32)


def write_params(folder: Path, origin: Path, n: int, seed: int = 0, shard_images: int = 4) -> None:
    text = PARAMS.format(origin=origin, n=n, seed=seed, shard_images=shard_images)
    (folder / "params.yaml").write_text(text)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# A method with both classes, as cycle_gan and pro_gan are, and one with few images.
SIZES = {("cycle_gan", REAL): 30, ("cycle_gan", FAKE): 20, ("glide", FAKE): 40, ("coco", REAL): 5}
CATALOGUE = pd.DataFrame(
    [
        {"image_id": f"{method}/{label}/{n}", "method": method, "label": label}
        for (method, label), size in SIZES.items()
        for n in range(size)
    ]
)
seeds = st.integers(0, 2**64 - 1)
few = settings(deadline=None, max_examples=25)


@few
@given(n=st.integers(1, 50), seed=seeds)
def test_a_draw_has_as_many_of_each_method_and_class_as_asked_or_all(n: int, seed: int) -> None:
    counts = draw(CATALOGUE, n, seed).groupby(["method", "label"]).size()
    assert dict(counts) == {key: min(n, size) for key, size in SIZES.items()}


@few
@given(n=st.integers(1, 40), more=st.integers(0, 10), seed=seeds)
def test_a_smaller_draw_is_the_beginning_of_a_larger_one(n: int, more: int, seed: int) -> None:
    small, large = draw(CATALOGUE, n, seed), draw(CATALOGUE, n + more, seed)
    for method, rows in small.groupby("method"):
        same = large[large["method"] == method].head(len(rows))
        assert list(rows["image_id"]) == list(same["image_id"])


@few
@given(shuffle=st.integers(0, 2**32 - 1), seed=seeds)
def test_the_order_of_the_rows_does_not_matter(shuffle: int, seed: int) -> None:
    shuffled = CATALOGUE.sample(frac=1, random_state=shuffle)
    pd.testing.assert_frame_equal(draw(shuffled, 7, seed), draw(CATALOGUE, 7, seed))


@few
@given(seed=seeds)
def test_a_draw_does_not_depend_on_other_methods(seed: int) -> None:
    alone = CATALOGUE[CATALOGUE["method"] == "cycle_gan"]
    among = draw(CATALOGUE, 7, seed)
    expected = among[among["method"] == "cycle_gan"]["image_id"]
    assert list(draw(alone, 7, seed)["image_id"]) == list(expected)


def test_another_seed_draws_other_images() -> None:
    first, second = (set(draw(CATALOGUE, 10, seed)["image_id"]) for seed in (0, 1))
    assert 5 < len(first & second) < len(first) - 5


@pytest.mark.parametrize(("label", "name"), [(REAL, "real"), (FAKE, "fake")])
def test_an_empty_class_is_refused(label: int, name: str) -> None:
    with pytest.raises(InputError, match=f"no {name} images; both classes are needed"):
        draw(CATALOGUE[CATALOGUE["label"] != label], 5, 0)


def test_an_image_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(InputError, match="lists 'coco/0/4' twice"):
        draw(pd.concat([CATALOGUE, CATALOGUE.tail(1)]), 5, 0)


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"download\.source = 'artefact' is unknown; .*'folder'"):
        build_source("artefact", "")


def test_a_source_that_yields_another_image_is_a_bug() -> None:
    class Wrong:
        provenance = Provenance("", "", {})

        def catalogue(self) -> pd.DataFrame:
            return CATALOGUE

        def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
            return ((image_id, b"") for image_id in reversed(list(images["image_id"])))

    with pytest.raises(AssertionError, match="the source yields"):
        list(fetched(Wrong(), CATALOGUE))


def test_the_stage_writes_what_was_drawn(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, images, n=12)
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
        write_params(tmp_path, images, n)
        main([f"raw{n}"])
    small, large = contents(tmp_path / "raw6"), contents(tmp_path / "raw9")
    changed = {name for name in small if name.endswith(".tar") and small[name] != large[name]}
    assert changed == {f"{method}-00001.tar" for method in METHODS}


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
    write_params(folder, images, n=8)
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
    write_params(tmp_path, images, n=8)
    killed = run_stage(tmp_path, KILL.format(module=module, name=name, call=call))
    assert killed.returncode == -9
    assert not (tmp_path / "data/raw").exists()
    assert run_stage(tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]
    assert contents(tmp_path / "data/raw") == undisturbed


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, n=8)
    # The kernel refuses to let any file grow beyond this: a full disk that needs no privileges.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))"
    done = run_stage(tmp_path, limit)
    assert done.returncode == 1
    assert "error: " in done.stderr.splitlines()[-1]
    assert ".tar" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_a_full_disk_does_not_touch_what_was_there(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, n=2)
    assert run_stage(tmp_path).returncode == 0
    before = contents(tmp_path / "data/raw")
    write_params(tmp_path, images, n=8)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))"
    assert run_stage(tmp_path, limit).returncode == 1
    assert contents(tmp_path / "data/raw") == before


def test_bad_parameters_are_one_line(images: Path, tmp_path: Path) -> None:
    write_params(tmp_path, images, n=0)
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
    write_params(tmp_path, REAL_IMAGES / "artifact-mini", n=100, shard_images=60)
    download.main(["raw"])
    counts = read_index(tmp_path / "raw").groupby(["method", "family"]).size()
    assert dict(counts) == {
        ("ffhq", "real"): 100,
        ("imagenet", "real"): 100,
        ("stable_diffusion", "diffusion"): 100,
        ("stylegan1", "gan"): 100,
    }
