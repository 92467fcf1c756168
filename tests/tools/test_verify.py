"""`make verify`: whatever changed, wherever it is kept, is found; and put right on request."""

import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3fs import S3FileSystem

from src.core.cli import InputError
from tests.conftest import Project
from tests.helpers.tiny_remote import cached, enter, flip_byte, object_of, outputs, stored
from tools.push import push
from tools.remote.rehash import DAMAGED, MISSING, OK, UNEXPECTED
from tools.remote.stored_objects import CACHE, WORKSPACE
from tools.set_remote import set_remote
from tools.verify import check_pipeline, main, report, verify, verify_and_repair

# DVC calls something that a library of its own deprecates.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]


def found(project: Project) -> set[tuple[str, str, str]]:
    """State, place and name of all that is not whole."""
    with Repo(str(project.folder)) as repo:
        return {
            (result.state, result.copy.place, result.copy.name)
            for result in verify(repo, None)
            if result.state != OK
        }


def test_a_fresh_build_is_whole(tiny: Project) -> None:
    assert found(tiny) == set()


def test_a_flipped_byte_in_a_read_only_cache_file_is_found_though_dvc_does_not(
    tiny: Project,
) -> None:
    flip_byte(object_of(tiny, "data/raw/fox.tar"))
    assert "up to date" in tiny.run("dvc", "status")
    assert (DAMAGED, CACHE, "data/raw/fox.tar") in found(tiny)


def test_what_nothing_keeps_is_not_missed(tiny: Project) -> None:
    with (tiny.folder / "dvc.yaml").open("a") as file:
        file.write("  run:\n    cmd: mkdir -p runs && cp make.py runs/copy\n    deps: [make.py]\n")
        file.write("    outs: [{runs/copy: {cache: false}}]\n")
    tiny.repro()
    shutil.rmtree(tiny.folder / "runs")
    assert found(tiny) == {(MISSING, WORKSPACE, "runs/copy")}  # Git could hold it
    with (tiny.folder / ".gitignore").open("a") as file:
        file.write("/runs/\n")
    assert found(tiny) == set()


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_any_object_is_found_and_flipping_back_heals(
    tiny: Project, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(cached(tiny)))
    offset = data.draw(st.integers(0, path.stat().st_size - 1))
    whole = path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x80]) + whole[offset + 1 :])
        assert any(place == CACHE for _, place, _ in found(tiny))
    finally:
        path.write_bytes(whole)
    assert found(tiny) == set()


@pytest.mark.parametrize("change", ["flip", "shorten", "empty"])
def test_a_changed_output_is_found(tiny: Project, change: str) -> None:
    path = tiny.folder / "data/raw/owl.tar"
    content = path.read_bytes()
    path.unlink()  # it may be a link to the cache
    path.write_bytes({"flip": b"x" + content[1:], "shorten": content[:-1], "empty": b""}[change])
    assert found(tiny) == {(DAMAGED, WORKSPACE, "data/raw/owl.tar")}


def test_what_is_missing_and_what_is_too_much_is_found(tiny: Project) -> None:
    (tiny.folder / "data/table.csv").unlink()
    (tiny.folder / "data/raw/extra.tar").write_text("x")
    object_of(tiny, "data/raw/cat.tar").unlink()
    assert found(tiny) == {
        (MISSING, WORKSPACE, "data/table.csv"),
        (UNEXPECTED, WORKSPACE, "data/raw/extra.tar"),
        (MISSING, CACHE, "data/raw/cat.tar"),
    }


def test_a_metric_that_git_keeps_is_looked_at(tiny: Project) -> None:
    (tiny.folder / "metrics.json").write_text('{"size": 1}\n')
    assert found(tiny) == {(DAMAGED, WORKSPACE, "metrics.json")}


def test_without_a_listing_a_directory_is_hashed_as_a_whole(tiny: Project) -> None:
    listing = cached(tiny, "*/*.dir")[0]
    flip_byte(listing)
    assert found(tiny) == {(DAMAGED, CACHE, "data/raw")}
    flip_byte(tiny.folder / "data/raw/dog.tar")
    assert found(tiny) == {(DAMAGED, CACHE, "data/raw"), (DAMAGED, WORKSPACE, "data/raw")}


def test_without_the_lock_of_the_pipeline_nothing_else_is_success(tiny: Project) -> None:
    (tiny.folder / "study.txt").write_text("a result")
    (tiny.folder / "dvc.lock").unlink()
    with Repo(str(tiny.folder)) as repo:
        repo.add(str(tiny.folder / "study.txt"))
        for check in (lambda: verify(repo, None), lambda: push(repo)):
            with pytest.raises(InputError, match=r"no stage of dvc.yaml is locked: run dvc repro"):
                check()


def test_the_report_counts_and_advises(tiny: Project, caplog: pytest.LogCaptureFixture) -> None:
    flip_byte(object_of(tiny, "data/raw/fox.tar"))
    with Repo(str(tiny.folder)) as repo:
        results = verify(repo, None)
    with pytest.raises(InputError, match=r"of \d+ copies are not whole; damaged: make verify"):
        report(results)
    assert "data/raw/fox.tar" in caplog.text


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def edit(project: Project, name: str, text: str) -> bytes:
    """Write a file of the workspace, which may be a link to the cache; return its bytes."""
    path = project.folder / name
    path.unlink(missing_ok=True)
    path.write_text(text)
    return path.read_bytes()


def repaired(project: Project, monkeypatch: pytest.MonkeyPatch, *, remote: bool = False) -> bool:
    monkeypatch.chdir(project.folder)
    with Repo() as repo:
        results = verify_and_repair(repo, "storage" if remote else None)
    return all(result.state == OK for result in results)


def test_everything_damaged_here_is_repaired_from_the_remote(
    folder_remote: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = outputs(folder_remote)
    for path in cached(folder_remote):
        flip_byte(path)
    for name in before:
        if not (folder_remote.folder / name).stat().st_nlink > 1:
            flip_byte(folder_remote.folder / name)
    assert {name for _, _, name in found(folder_remote)} == {
        "data/raw",
        "data/table.csv",
        "metrics.json",
    }
    assert repaired(folder_remote, monkeypatch)
    assert outputs(folder_remote) == before
    assert found(folder_remote) == set()
    assert "up to date" in folder_remote.run("dvc", "status")


def test_a_lost_cache_is_fetched_listing_first(
    folder_remote: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [*cached(folder_remote), *(folder_remote.folder / "data/raw").iterdir()]:
        path.unlink()
    assert repaired(folder_remote, monkeypatch)


def test_the_remote_is_repaired_from_here(
    folder_remote: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objects = sorted((tmp_path / "remote").rglob("??/*"))
    flip_byte(objects[0])
    objects[1].unlink()
    with Repo(str(folder_remote.folder)) as repo:
        states = [each.state for each in verify(repo, "storage") if each.state != OK]
    assert sorted(states) == [DAMAGED, MISSING]
    # DVC itself is content: it looks at names only, and at those of listings first.
    assert repaired(folder_remote, monkeypatch, remote=True)


@pytest.mark.parametrize("trouble", ["damaged", "missing"])
def test_without_a_whole_copy_nothing_is_touched_and_the_rest_is_mended(
    folder_remote: Project,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    for name in ("data/raw/fox.tar", "data/table.csv"):
        edit(folder_remote, name, "mine")
        for path in (object_of(folder_remote, name), stored(folder_remote, tmp_path, name)):
            flip_byte(path) if trouble == "damaged" else path.unlink()
    cat = edit(folder_remote, "data/raw/cat.tar", "mendable")
    before = outputs(folder_remote)
    remote = contents(tmp_path / "remote")
    assert not repaired(folder_remote, monkeypatch)
    assert contents(tmp_path / "remote") == remote
    after = outputs(folder_remote)
    assert after.pop("data/raw/cat.tar") != before.pop("data/raw/cat.tar")
    assert after == before
    assert contents(folder_remote.folder / ".scratch/replaced") == {"1/data/raw/cat.tar": cat}
    assert "2 objects have no whole copy anywhere that was looked at" in caplog.text


def test_every_edit_is_put_aside_and_none_is_lost(
    tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(tiny)
    for text in ("mine 1", "mine 2"):
        edit(tiny, "data/table.csv", text)
        edit(tiny, "data/raw/extra.tar", text)
        assert repaired(tiny, monkeypatch)  # there is no remote, and no need of one
        assert outputs(tiny) == expected
    assert contents(tiny.folder / ".scratch/replaced") == {
        f"{number}/data/{name}": f"mine {number}".encode()
        for number in (1, 2)
        for name in ("table.csv", "raw/extra.tar")
    }


def test_what_could_not_be_repaired_can_be_once_the_remote_is_back(
    folder_remote: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = outputs(folder_remote)
    cached_fox = object_of(folder_remote, "data/raw/fox.tar")
    fox = folder_remote.folder / "data/raw/fox.tar"
    fox.unlink()
    fox.hardlink_to(cached_fox)
    flip_byte(cached_fox)
    (tmp_path / "remote").rename(tmp_path / "away")
    assert not repaired(folder_remote, monkeypatch)
    (tmp_path / "away").rename(tmp_path / "remote")
    assert repaired(folder_remote, monkeypatch)
    assert outputs(folder_remote) == expected


def test_without_being_asked_to_the_remote_is_not_written(
    folder_remote: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "data/table.csv"
    edit(folder_remote, name, (folder_remote.folder / name).read_text())  # no link to the cache
    whole = stored(folder_remote, tmp_path, "data/raw/fox.tar")
    (folder_remote.folder / "data/raw/fox.tar").unlink()
    object_of(folder_remote, "data/raw/fox.tar").unlink()
    for path in (object_of(folder_remote, name), stored(folder_remote, tmp_path, name)):
        flip_byte(path)
    remote = contents(tmp_path / "remote")
    assert repaired(folder_remote, monkeypatch)  # one from the workspace, one from the remote
    assert contents(tmp_path / "remote") == remote
    assert (folder_remote.folder / "data/raw/fox.tar").read_bytes() == whole.read_bytes()


def test_what_could_not_be_read_is_counted_apart(
    folder_remote: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flip_byte(stored(folder_remote, tmp_path, "data/raw/fox.tar"))
    unreadable = stored(folder_remote, tmp_path, "data/raw/cat.tar")
    unreadable.unlink()
    unreadable.mkdir()
    with Repo(str(folder_remote.folder)) as repo:
        results = verify(repo, "storage")
    expected = r"^1 of 19 copies are not whole; damaged: .*; 1 of 19 could not be read"
    with pytest.raises(InputError, match=expected):
        report(results)
    assert "Is a directory" in caplog.text


def test_a_dead_server_is_named_once_and_no_object_is_tried(
    tiny: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Repo(str(tiny.folder)) as repo:
        set_remote(repo, "storage", "s3://experiments/path", "http://127.0.0.1:9")
    tiny.environment.update(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    enter(tiny, monkeypatch)
    silent = "remote storage, endpoint: no server answers at the endpoint"
    with pytest.raises(InputError, match=f"^{silent}"):
        main(["--remote"])
    edit(tiny, "data/table.csv", "mine")
    main(["--repair"])  # all that it takes is here
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    flip_byte(object_of(tiny, "data/raw/fox.tar"))
    edit(tiny, "data/raw/fox.tar", "mine")
    with pytest.raises(InputError, match=r"^2 of \d+ copies are not whole"):
        main(["--repair"])
    assert caplog.text.count(f"not read: {silent}") == 1


def test_a_push_of_what_is_nowhere_fails(folder_remote: Project, tmp_path: Path) -> None:
    table = stored(folder_remote, tmp_path, "data/table.csv")
    shutil.rmtree(folder_remote.folder / ".dvc/cache")
    with Repo(str(folder_remote.folder)) as repo:
        assert push(repo) == 0  # all is there
        table.unlink()
        lost = "objects in use are neither there nor in this cache"
        with pytest.raises(InputError, match=f"objects: 1 of 6 {lost}, data/table.csv; make push"):
            push(repo)
        shutil.rmtree(tmp_path / "remote")
        # Of a directory whose listing is lost nobody knows the files.
        with pytest.raises(InputError, match=f"objects: 2 of 2 {lost}, data/raw; make push"):
            push(repo)


@pytest.mark.s3
def test_objects_on_s3_are_verified_and_repaired(
    tiny_remote: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_remote.run("dvc", "push")
    enter(tiny_remote, monkeypatch)
    with Repo() as repo:
        remote = repo.cloud.get_remote("storage")
        damaged, removed = sorted(remote.fs.find(remote.path))[:2]
        remote.fs.pipe_file(damaged, b"!" + remote.fs.cat_file(damaged)[1:])
        remote.fs.rm_file(removed)
        results = verify(repo, "storage")
        states = [(each.state, each.copy.path) for each in results if each.state != OK]
        assert sorted(states) == [(DAMAGED, damaged), (MISSING, removed)]
        verify_and_repair(repo, "storage")
        assert all(each.state == OK for each in verify(repo, "storage"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    S3FileSystem.clear_instance_cache()
    wrong = "^remote storage, bucket: the secret key does not belong to the access key"
    with Repo() as repo, pytest.raises(InputError, match=wrong):
        verify(repo, "storage")


def test_what_has_no_whole_copy_is_built_again_by_the_commands_that_are_printed(
    tiny: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(tiny)
    for name in ("data/raw/fox.tar", "data/table.csv"):
        path = object_of(tiny, name)
        flip_byte(path)
        (tiny.folder / name).unlink()
        (tiny.folder / name).hardlink_to(path)
    assert tiny.repro() == []  # DVC links the damaged objects again
    assert outputs(tiny) != expected
    monkeypatch.chdir(tiny.folder)
    for arguments in ([], ["--repair"]):
        with pytest.raises(InputError, match="2 without a whole copy here") as caught:
            main(arguments)
    (commands,) = re.findall(
        r"(xargs rm -f < \S+; dvc repro --force --single-item \w+)", str(caught.value)
    )
    tiny.run("bash", "-c", commands)
    assert outputs(tiny) == expected
    assert found(tiny) == set()


@pytest.mark.parametrize("name", ["data/raw/fox.tar", "data/table.csv", "metrics.json"])
def test_no_figures_come_from_damaged_files(tiny: Project, name: str) -> None:
    with Repo(str(tiny.folder)) as repo:
        check_pipeline(repo)
    flip_byte(tiny.folder / name)
    with Repo(str(tiny.folder)) as repo, pytest.raises(InputError, match=f"first {name} .DAMAGED"):
        check_pipeline(repo)
