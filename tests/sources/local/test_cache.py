"""The content cache: whole entries or none."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.sources.local.cache import CACHE_VARIABLE, Cache, cache_key, default_cache_path


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    key = cache_key("artifact", "1", "glide/a.jpg")
    assert cache.get(key) is None
    cache.put(key, b"image")
    assert cache.get(key) == b"image"
    assert Cache(tmp_path / "cache").get(key) == b"image"


def test_keys_keep_their_parts_apart() -> None:
    assert cache_key("ab", "c") != cache_key("a", "bc") != cache_key("abc")
    assert len(cache_key()) == 64


def test_threads_may_put_the_same_entry(tmp_path: Path) -> None:
    cache, key, data = Cache(tmp_path), cache_key("a"), bytes(100_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.put(key, data), range(64)))
    assert cache.get(key) == data
    assert list(cache.path(key).parent.iterdir()) == [cache.path(key)]


def test_a_process_killed_while_it_puts_leaves_no_entry(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from src.sources.local import cache\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "cache.Cache(pathlib.Path(sys.argv[1])).put(cache.cache_key('a'), b'half')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert Cache(tmp_path).get(cache_key("a")) is None
    Cache(tmp_path).put(cache_key("a"), b"whole")
    assert Cache(tmp_path).get(cache_key("a")) == b"whole"


def test_the_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, os.fspath(tmp_path))
    assert default_cache_path() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert default_cache_path().name == "real-or-generated"
