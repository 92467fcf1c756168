"""Many entries in few files: whole or absent, whatever happens to the files."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.sources.local.cache import Cache, cache_key
from src.sources.local.packs import Packs

ENTRIES = {cache_key(str(n)): bytes([n]) * (n * 7) for n in range(20)}


def test_what_is_put_is_got_also_by_the_next_run(tmp_path: Path) -> None:
    packs = Cache(tmp_path).packs
    packs.put(ENTRIES)
    packs.put({})
    packs.put({cache_key("later"): b"later"})
    for each in (packs, Cache(tmp_path).packs):
        assert {key: each.get(key) for key in ENTRIES} == ENTRIES
        assert all(key in each for key in ENTRIES)
        assert each.get(cache_key("later")) == b"later"
        assert cache_key("none") not in each
        assert each.get(cache_key("none")) is None


def test_two_runs_at_a_time_write_files_of_their_own(tmp_path: Path) -> None:
    one, other = Packs(tmp_path), Packs(tmp_path)
    for n, (key, data) in enumerate(ENTRIES.items()):
        (one, other)[n % 2].put({key: data})
    both = Packs(tmp_path)
    assert {key: both.get(key) for key in ENTRIES} == ENTRIES


@settings(max_examples=20)
@given(cut=st.integers(0, 400), of_pack=st.booleans())
def test_a_file_that_is_cut_off_anywhere_gives_whole_entries_or_none(
    tmp_path_factory: pytest.TempPathFactory, cut: int, of_pack: bool
) -> None:
    folder = tmp_path_factory.mktemp("packs")
    Packs(folder).put(ENTRIES)
    (file,) = folder.glob("*.pack" if of_pack else "*.index")
    file.write_bytes(file.read_bytes()[: -cut or None])
    packs = Packs(folder)
    assert all(packs.get(key) in (None, data) for key, data in ENTRIES.items())
    packs.put(ENTRIES)
    assert {key: Packs(folder).get(key) for key in ENTRIES} == ENTRIES


def test_damage_is_not_given_out(tmp_path: Path) -> None:
    Packs(tmp_path).put(ENTRIES)
    (file,) = tmp_path.glob("*.pack")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + b"\0")
    assert Packs(tmp_path).get(list(ENTRIES)[-1]) is None
    assert Packs(tmp_path).get(list(ENTRIES)[-2]) == ENTRIES[list(ENTRIES)[-2]]


def test_the_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    packs = Packs(tmp_path / "x")
    packs.put(ENTRIES)
    for file in (tmp_path / "x").iterdir():
        file.unlink()
    assert packs.get(list(ENTRIES)[3]) is None


def test_a_full_disk_is_named_and_leaves_no_entry(tmp_path: Path) -> None:
    program = (
        "import pathlib, resource, sys\n"
        "from src.sources.local.cache import cache_key\n"
        "from src.sources.local.packs import Packs\n"
        "packs = Packs(pathlib.Path(sys.argv[1]))\n"
        "packs.put({cache_key('a'): b'1' * 900})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    packs.put({cache_key('b'): b'2' * 900})\n"
        "except OSError as error:\n"
        "    assert error.filename.endswith('.pack')\n"
        "    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == 7
    packs = Packs(tmp_path)
    assert packs.get(cache_key("a")) == b"1" * 900
    assert cache_key("b") not in packs
