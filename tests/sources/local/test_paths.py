import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import compute as pc

from src.sources.local.paths import HIDDEN, LeftOut, is_hidden, walk

HIDDEN_PATHS = [
    ".ipynb_checkpoints/a.png",
    "real/.thumbnails/a.png",
    "real/.Trash-1000/files/a.jpg",
    "real/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    "__MACOSX/real/._a.jpg",
    "real/._a.jpg",
    "lost+found/a.jpg",
    "$RECYCLE.BIN/a.jpg",
    "$Recycle.Bin/a.jpg",
    "System Volume Information/a.jpg",
    "real/Thumbs.db",
    "real/desktop.ini",
    "real/.DS_Store",
    "real/...jpg",
    "real/..a/b.jpg",
]
SEEN_PATHS = [
    "real/a.jpg",
    "./real/a.jpg",
    "a.b/c.jpg",
    "real/eaDir/a.jpg",
    "lost/found.jpg",
    "x..",
]


@pytest.mark.parametrize("path", HIDDEN_PATHS)
def test_a_path_with_a_hidden_or_system_part_is_hidden(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize("path", SEEN_PATHS)
def test_other_paths_are_not(path: str) -> None:
    assert not is_hidden(path)


def test_arrow_finds_the_same_paths() -> None:
    paths = HIDDEN_PATHS + SEEN_PATHS
    found = pc.match_substring_regex(pa.array(paths), HIDDEN).to_pylist()
    assert found == [is_hidden(path) for path in paths]


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root: Path, follow_links: bool = False) -> tuple[list[str], str]:
    left_out = LeftOut()
    paths = walk(root, follow_links=follow_links, left_out=left_out)
    return [path.relative_to(root).as_posix() for path in paths], str(left_out)


def test_the_order_is_that_of_the_names_and_hidden_ones_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "b/2.jpg", "b/1.jpg", "a/3.jpg", "c.jpg", ".x/4.jpg", "a/@eaDir/5.jpg", "a/.6")
    assert found(tmp_path) == (
        ["c.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg"],
        "3 hidden or system files or folders (first: '.x')",
    )


def test_a_hidden_folder_that_is_named_itself_is_walked(tmp_path: Path) -> None:
    make(tmp_path / ".cache", "a.jpg")
    assert found(tmp_path / ".cache") == (["a.jpg"], "")


def test_links_out_of_the_folder_are_left_out_unless_they_are_allowed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(tmp_path, "root/in/1.jpg", "elsewhere/2.jpg", "rooted/3.jpg")
    (root / "file.jpg").symlink_to("../elsewhere/2.jpg")
    (root / "folder").symlink_to("../elsewhere")
    (root / "prefix").symlink_to("../rooted")
    (root / "inside.jpg").symlink_to("in/1.jpg")
    names, said = found(root)
    assert names == ["inside.jpg", "in/1.jpg"]
    assert said == "3 links that lead out of the folder (first: 'folder')"
    names, said = found(root, follow_links=True)
    assert names == ["file.jpg", "inside.jpg", "folder/2.jpg", "in/1.jpg", "prefix/3.jpg"]
    assert not said


@pytest.mark.parametrize("follow_links", [False, True])
def test_loops_end_and_are_counted(tmp_path: Path, follow_links: bool) -> None:
    make(tmp_path, "a/1.jpg")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/self.jpg").symlink_to("self.jpg")
    (tmp_path / "b").symlink_to("a")
    names, said = found(tmp_path, follow_links)
    assert names == ["a/1.jpg"]
    assert said.startswith("3 links to a folder that is read already, or to themselves")


def test_a_link_to_nowhere_is_yielded_and_a_pipe_is_not(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == (["gone.jpg"], "1 devices, pipes or sockets (first: 'pipe.jpg')")


def test_a_folder_that_cannot_be_listed_is_an_error_or_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "gone")
    errors: list[OSError] = []
    paths = walk(tmp_path / "gone", follow_links=False, left_out=LeftOut(), on_error=errors.append)
    assert not list(paths)
    assert len(errors) == 1


def test_names_that_are_no_text_are_escaped_in_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / ".a\nreal 0.010").write_bytes(b"")
    assert found(tmp_path)[1].endswith(r"(first: '.a\nreal 0.010')")
