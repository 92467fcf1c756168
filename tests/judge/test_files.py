import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from judge.files import find_images, paths_of


def test_paths_come_from_files_folders_and_standard_input(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/readme.md", "a.unknown"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / "a.unknown"), str(tmp_path / "b"), "-"]
    found = find_images(names, [b"x y.jpg\n", b"\n", b"z.jpg"]).found

    expected = [
        *(tmp_path / name for name in ("a.unknown", "b/1.png", "b/2.JPG")),
        *map(Path, ("x y.jpg", "z.jpg")),
    ]
    assert found == expected


def test_a_folder_is_searched_in_the_order_of_its_paths_through_links_and_not_in_circles(
    tmp_path: Path,
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    names = ("z.png", "b/2.avif", "b.jpg", "b/c/1.jfif", "a/3.webp")
    for path in (*(inside / name for name in names), outside / "4.bmp"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (inside / "linked").symlink_to(outside)
    (inside / "twice").symlink_to(outside)
    (inside / "b/up").symlink_to(inside)
    (inside / "itself").symlink_to(inside / "itself")
    (inside / "nowhere.png").symlink_to(tmp_path / "absent.png")
    os.mkfifo(inside / "pipe.png")  # to read it would never end

    found = find_images([str(inside)], []).found
    expected = sorted(inside / name for name in (*names, "linked/4.bmp", "nowhere.png"))
    assert found == expected


def encoded(form: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(data, form)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("phone.HEIC", "JPEG"),
        ("scan.jpe", "JPEG"),
        ("no_suffix", "PNG"),
        ("download.php", "WEBP"),
        ("picture.dat", "AVIF"),
        ("picture.bak", "TIFF"),
        ("picture.000", "JPEG2000"),
        ("picture.tmp", "GIF"),
    ],
)
def test_what_begins_like_an_image_is_one(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / name).write_bytes(encoded(form))
    search = find_images([str(tmp_path)], [])
    assert search.found == [tmp_path / name]
    assert not search.no_images


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.mp4", "README", ".hidden.jpg", "@eaDir/d.jpg", "e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    search = find_images([str(tmp_path)], [])
    assert search.found == [tmp_path / "e.jpg"]
    assert search.no_images == {".txt": 2, ".mp4": 1, "no suffix": 1}
    assert str(search.left_out).startswith("2 hidden or system files or folders")
    assert find_images([str(tmp_path / "@eaDir")], []).found == [tmp_path / "@eaDir/d.jpg"]


def test_lists_come_from_windows_too(tmp_path: Path) -> None:
    odd = tmp_path / "odd\r"
    odd.touch()
    lines = [b"\xef\xbb\xbfC:\\a.jpg\r\n", b"\r\n", b"caf\xe9.jpg\r\n", os.fsencode(odd) + b"\n"]
    assert list(paths_of(lines)) == ["C:\\a.jpg", "caf\udce9.jpg", str(odd)]
