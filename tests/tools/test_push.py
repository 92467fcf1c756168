"""`make push` and `make pull`: what DVC's records say is not believed; what is sent is hashed."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from src.core.cli import InputError
from tests.conftest import Project
from tests.helpers.tiny_remote import cached, flip_byte, object_of, outputs, stored
from tools.pull import pull
from tools.push import push
from tools.remote.stored_objects import listing

# DVC calls something that a library of its own deprecates.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]


def push_of(project: Project) -> int:
    with Repo(str(project.folder)) as repo:
        return push(repo)


def pull_of(project: Project) -> int:
    with Repo(str(project.folder)) as repo:
        return pull(repo)


def test_a_push_that_finds_nothing_to_do_says_so(folder_remote: Project) -> None:
    assert push_of(folder_remote) == 1  # the record of the run, which `folder_remote` leaves out
    assert push_of(folder_remote) == 0


@pytest.mark.parametrize("names", [["data/raw/cat.tar"], ["data/raw/fox.tar", "data/table.csv"]])
def test_what_dvc_takes_for_granted_is_sent(
    folder_remote: Project, tmp_path: Path, names: list[str]
) -> None:
    push_of(folder_remote)
    folder_remote.run("dvc", "push")
    for name in names:
        stored(folder_remote, tmp_path, name).unlink()
    folder_remote.run("dvc", "push", "data/raw")
    assert not stored(folder_remote, tmp_path, names[0]).exists()
    assert push_of(folder_remote) == len(names)
    for name in names:
        whole = (folder_remote.folder / name).read_bytes()
        assert stored(folder_remote, tmp_path, name).read_bytes() == whole


def test_an_object_cut_short_on_the_remote_is_sent_again(
    folder_remote: Project, tmp_path: Path
) -> None:
    push_of(folder_remote)
    path = stored(folder_remote, tmp_path, "data/raw/owl.tar")
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1])
    assert push_of(folder_remote) == 1
    assert path.read_bytes() == whole


def test_damaged_bytes_are_not_sent_and_neither_is_their_listing(
    folder_remote: Project, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "remote")
    fox = object_of(folder_remote, "data/raw/fox.tar")
    flip_byte(fox)  # and with it, where they are links, the file of the workspace
    with pytest.raises(InputError, match=r"^1 of \d objects were not pushed, data/raw/fox.tar: "):
        push_of(folder_remote)
    names = {path.name for path in (tmp_path / "remote").rglob("*")}
    assert fox.name not in names
    assert not [name for name in names if name.endswith(".dir")]
    assert "make verify REPAIR=1" in folder_remote.run("python", "-m", "tools.push", check=False)


def test_a_pull_looks_for_itself_what_is_missing(folder_remote: Project) -> None:
    expected = outputs(folder_remote)
    for name in ("data/raw/cat.tar", "data/raw/dog.tar"):
        object_of(folder_remote, name).unlink()
        (folder_remote.folder / name).unlink()
    assert pull_of(folder_remote) == 2
    assert outputs(folder_remote) == expected
    assert pull_of(folder_remote) == 0
    shutil.rmtree(folder_remote.folder / ".dvc/cache")
    shutil.rmtree(folder_remote.folder / "data")
    assert pull_of(folder_remote) == 6
    assert outputs(folder_remote) == expected
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in cached(folder_remote))


def test_a_half_collected_record_of_dvc_hides_nothing(folder_remote: Project) -> None:
    """What a killed `dvc pull` leaves: DVC's index of the directory knows some of its files."""
    expected = outputs(folder_remote)
    with Repo(str(folder_remote.folder)) as repo:
        repo.fetch()
        out = next(each for each in repo.index.outs if str(each) == "data/raw")
        assert listing(out, [("cache", out.cache)])
        keys = [key for key, _ in repo.data_index.items() if key[-1:] == ("cat.tar",)]
        assert keys
        for key in keys:
            repo.data_index.delete_node(key)
        repo.data_index.commit()
    shutil.rmtree(folder_remote.folder / ".dvc/cache")
    shutil.rmtree(folder_remote.folder / "data/raw")
    assert pull_of(folder_remote) == 6
    assert outputs(folder_remote) == expected


def test_a_pull_takes_nothing_that_is_damaged(folder_remote: Project, tmp_path: Path) -> None:
    fox = object_of(folder_remote, "data/raw/fox.tar")
    flip_byte(stored(folder_remote, tmp_path, "data/raw/fox.tar"))
    fox.unlink()
    with pytest.raises(InputError, match=r"^1 of 1 objects were not pulled, data/raw/fox.tar: "):
        pull_of(folder_remote)
    assert not fox.exists()
