"""Tar shards: what is written is read back; what is damaged is refused."""

import os
import pickle
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.cli import InputError
from src.images.shards import ShardReader, read_tar, stored_size, write_shard

MEMBERS = [("0a.jpg", b"x" * 700), ("0b.png", b""), ("0c.jpg", b"y" * 512), ("0d.jpg", b"z")]


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=8))
def test_every_member_comes_back_by_its_place(contents: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        names = [f"{number:04x}.jpg" for number in range(len(contents))]
        places = write_shard(path, zip(names, contents, strict=True))
        reader = ShardReader(Path(folder))
        assert [reader.read("a.tar", *place) for place in places] == contents
        members = [(m.name, m.offset_data, m.size) for m in read_tar(path)]
        assert members == [(n, *p) for n, p in zip(names, places, strict=True)]
        end = places[0][0] - tarfile.BLOCKSIZE + sum(stored_size(len(c)) for c in contents)
        assert path.read_bytes()[end:].strip(b"\0") == b""


def test_a_shard_is_a_plain_tar_without_owner_or_time(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", MEMBERS)
    with tarfile.open(tmp_path / "a.tar") as archive:
        for member, (name, content) in zip(archive, MEMBERS, strict=True):
            file = archive.extractfile(member)
            assert file is not None
            assert (member.name, file.read()) == (name, content)
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime == 0


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", MEMBERS)
    whole = (tmp_path / "a.tar").read_bytes()
    end = sum(stored_size(len(content)) for _, content in MEMBERS)
    for length in range(0, end + tarfile.BLOCKSIZE, 100):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.tar: truncated or corrupt"):
            read_tar(tmp_path / "cut.tar")


@pytest.mark.parametrize("header", range(len(MEMBERS)))
def test_a_damaged_header_anywhere_is_noticed(tmp_path: Path, header: int) -> None:
    places = write_shard(tmp_path / "a.tar", MEMBERS)
    damaged = bytearray((tmp_path / "a.tar").read_bytes())
    damaged[places[header][0] - tarfile.BLOCKSIZE + 150] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(damaged)
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_tar(tmp_path / "a.tar")


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such tar archive"):
        read_tar(tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"a\.tar: no such shard"):
        ShardReader(tmp_path).read("a.tar", 0, 1)


@pytest.mark.parametrize(("offset", "length"), [(10_000, 300), (10**9, 1), (-1, 4), (0, -1)])
def test_a_place_outside_of_the_shard_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    write_shard(tmp_path / "a.tar", MEMBERS)
    with pytest.raises(InputError, match=r"a\.tar: cannot read"):
        ShardReader(tmp_path).read("a.tar", offset, length)


def test_a_reader_serves_threads_forks_and_pickles(tmp_path: Path) -> None:
    contents = [bytes([number]) * 3000 for number in range(64)]
    places = write_shard(tmp_path / "a.tar", ((f"{c[0]:02x}", c) for c in contents))
    reader = ShardReader(tmp_path)

    def read(place: tuple[int, int]) -> bytes:
        return reader.read("a.tar", *place)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, places * 8)) == contents * 8
    if (child := os.fork()) == 0:  # what a data loader's worker does
        os._exit(0 if [read(place) for place in places] == contents else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pickle.loads(pickle.dumps(reader)).read("a.tar", *places[7]) == contents[7]


def test_a_reader_of_many_shards_keeps_few_open(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number % 256]) * 8)
    reader = ShardReader(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 260, hard))
    try:
        for number in range(300):
            assert reader.read(f"{number}.tar", 0, 8) == bytes([number % 256]) * 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_disk_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.tar"):
        write_shard(tmp_path / "a.tar", MEMBERS)
    assert list(tmp_path.iterdir()) == []
