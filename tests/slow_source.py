"""A directory of images as if it were far away: slow, cached, and every fetch in a journal."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pandas as pd

from src import download
from src.sources import Plan
from src.sources.cache import CACHE_VARIABLE, Cache, cache_key, default_cache_path
from src.sources.folder import build as build_folder

SECONDS = 0.01  # that an image takes
# A line for each image that any run begins to fetch.
JOURNAL_VARIABLE = "JOURNAL"


class SlowFolder:
    """The images of a folder, which are kept in the cache once fetched."""

    def __init__(self, root: str) -> None:
        self._folder = build_folder(root)
        self._cache = Cache(default_cache_path())
        self.provenance = self._folder.provenance

    def catalogue(self) -> pd.DataFrame:
        return self._folder.catalogue()

    def plan(self, images: pd.DataFrame) -> Plan:
        kept = np.array([self._cache.path(_key(id_)).exists() for id_ in images["image_id"]])
        size = np.where(kept, 0, self._folder.plan(images).bytes)
        return Plan(kept, size, int(size.sum()), int((~kept).sum()), SECONDS * (~kept).sum())

    def prepare(self, images: pd.DataFrame) -> dict[str, str]:
        missing = self._folder.prepare(images)
        wanted = [id_ for id_ in images["image_id"] if id_ not in missing]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._fetch, wanted))
        return missing

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        for image_id in images["image_id"]:
            content = self._cache.get(_key(image_id))
            assert content is not None
            yield image_id, content

    def _fetch(self, image_id: str) -> None:
        if not self._cache.path(_key(image_id)).exists():
            _write_journal(image_id)
            time.sleep(SECONDS)
            self._cache.put(_key(image_id), (self._folder.root / image_id).read_bytes())


def _write_journal(line: str) -> None:
    # One write, so that a kill leaves whole lines and threads do not mix theirs.
    descriptor = os.open(os.environ[JOURNAL_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def read_journal(folder: Path) -> list[str]:
    """Return the images that runs in `folder` have begun to fetch, in order."""
    journal = folder / "journal"
    return journal.read_text().splitlines() if journal.exists() else []


def is_kept(image_id: str, cache: Path) -> bool:
    """Return whether an image is in the cache."""
    return Cache(cache).path(_key(image_id)).exists()


def _key(image_id: str) -> str:
    return cache_key("slow", image_id)


def start_download(folder: Path, cache: str) -> ForkServerProcess:
    """Start the stage in `folder` with this source, in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports take longer than all that is tested
    process = context.Process(target=_download, args=(folder, cache))
    process.start()
    return process


def _download(folder: Path, cache: str) -> None:
    os.chdir(folder)
    os.environ |= {CACHE_VARIABLE: str(folder / cache), JOURNAL_VARIABLE: str(folder / "journal")}
    download.SOURCES = {"slow": SlowFolder}
    download.main(["data/raw"])
