"""Kaggle data sets: by ranges out of the archive of all, else file by file, else all of it.

Source: the HTTP interface that kagglehub 0.2 and the kaggle command line use, `/api/v1/datasets`.
"""

import base64
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import numpy as np
import pyarrow as pa
import urllib3
from obstore.store import ObjectStore

from src.core.arrays import IntArray
from src.core.cli import InputError
from src.sources.local.cache import Cache, cache_key
from src.sources.local.prefetch import in_order
from src.sources.origins.addresses import Address, Place, public_url
from src.sources.origins.archives import open_place
from src.sources.origins.http import ask
from src.sources.origins.in_flight import IN_FLIGHT
from src.sources.origins.range_reader import ListedOrigin, Rows
from src.sources.origins.stores import Missing, Store, http_store
from src.sources.origins.whole_file import with_archives
from src.sources.origins.zips import MAX_CONTENT

# Without @ and ?: what an address says of users and tokens must not become part of a name.
_URL = re.compile(r"kaggle://(?P<owner>[^/@?]+)/(?P<name>[^/@?]+)(?:/versions/(?P<version>\d+))?")
_HELP = (
    "create a token on https://www.kaggle.com/settings and set KAGGLE_API_TOKEN, or "
    "KAGGLE_USERNAME and KAGGLE_KEY, or save it as kaggle.json in KAGGLE_CONFIG_DIR, ~/.kaggle or, "
    "on Linux without that folder, ~/.config/kaggle"
)
# Kaggle allows few requests a minute: beyond so many files the archive of all is sooner here.
MAX_FILES = 2000


def open_kaggle(address: Address, cache: Cache) -> "ListedOrigin | KaggleFiles":
    """Return the data set `kaggle://OWNER/NAME[/versions/N]`.

    Raises:
        InputError: the URL is malformed, there is no such data set, or access is refused.
    """
    match = _URL.fullmatch(address.url.rstrip("/"))
    if match is None:
        raise InputError(
            f"download.origin = {public_url(address.url)!r}: expected kaggle://OWNER/NAME/versions/N"
        )
    api = _Api(match["owner"], match["name"])
    try:
        version = match["version"] or api.current_version()
        pinned = f"kaggle://{match['owner']}/{match['name']}/versions/{version}"
        store = Store(pinned, lambda: api.archive(version), _HELP)
        ranges = store.stat("").ranges
    except Missing as error:
        raise InputError(f"download.origin: {error}") from error
    place = Place(store, pinned, "", ".zip", version)
    if ranges or address.whole:
        return open_place(place, cache, whole=address.whole)
    return KaggleFiles(api, place, cache)


class KaggleFiles:
    """A data set whose archive cannot be read by parts: its files by name, which must be known."""

    def __init__(self, api: "_Api", place: Place, cache: Cache) -> None:
        """Read files of `place`, or beyond MAX_FILES at once its whole archive."""
        self.url = place.url
        self.version = place.version
        self._api = api
        self._place = place
        self._cache = cache
        self._names: list[str] = []

    def names(self) -> None:
        """Return None: there is no listing, Kaggle's is made for a few files."""

    def find(self, names: pa.Array) -> Rows:
        """Return a new row for each of these files; whether they are there, reading shows."""
        first = len(self._names)
        self._names.extend(names.to_pylist())
        return np.arange(first, len(self._names), dtype=np.int64)

    def archives(self, rows: Rows) -> list[str]:
        """Return "" for each of these files: what an archive among them holds is not known."""
        return [""] * len(rows)

    def sizes(self, rows: Rows) -> IntArray:
        """Return zeros: sizes are not known before the files are read."""
        return np.zeros(len(rows), dtype=np.int64)

    def keys(self, rows: Rows) -> list[str]:
        """Return under which key a cache keeps each of these files."""
        return [cache_key(self.url, self._names[row]) for row in rows]

    def is_local(self) -> bool:
        """Return False."""
        return False

    def has_read(self) -> tuple[int, int]:
        """Return zeros, for unknown."""
        return 0, 0

    def cost(self, rows: Rows) -> tuple[int, int]:
        """Return 0, for unknown, and the number of requests."""
        return 0, len(rows)

    def unsure(self, rows: Rows) -> Rows:
        """Return these: names may be wrong."""
        return rows

    def read(self, rows: Rows) -> Iterator[list[tuple[int, bytes | Missing]]]:
        """Yield (row, content or why there is none) of these files, a request's at a time.

        Raises:
            InputError: Kaggle does not answer, or refuses access.
        """
        if len(rows) <= MAX_FILES:
            yield from in_order(lambda row: [(int(row), self._file(row))], rows, IN_FLIGHT)
            return
        archive = with_archives(lambda: open_place(self._place, self._cache, whole=True))
        found = archive.find(pa.array([self._names[row] for row in rows], pa.string()))
        yield [(int(row), Missing("not in the archive")) for row in rows[found < 0]]
        row_of = dict(zip(found.tolist(), rows.tolist(), strict=True))
        for contents in archive.read(found[found >= 0]):
            yield [(row_of[position], content) for position, content in contents]

    def contents(self, rows: Rows) -> Iterator[bytes]:
        """Yield the content of each of these files, in their order.

        Raises:
            InputError: one cannot be read; the message says why.
        """
        for row, content in zip(rows, in_order(self._file, rows, IN_FLIGHT), strict=True):
            if isinstance(content, Missing):
                raise InputError(f"{self.url}: {self._names[row]}: {content}")
            yield content

    def _file(self, row: int) -> bytes | Missing:
        try:
            return self._api.file(self.version, self._names[row])
        except Missing as reason:
            return reason


class _Api:
    """The few calls of Kaggle's HTTP interface that reading a data set takes."""

    def __init__(self, owner: str, name: str) -> None:
        self._base = (
            os.environ.get("KAGGLE_API_ENDPOINT", "https://www.kaggle.com") + "/api/v1/datasets"
        )
        self._dataset = f"{quote(owner)}/{quote(name)}"
        self._headers = _authorization()

    def current_version(self) -> str:
        """Return the newest version, for a URL that names none."""
        answer = json.loads(self._get(f"{self._base}/view/{self._dataset}").data)
        return str(answer["currentVersionNumber"])

    def archive(self, version: str) -> ObjectStore:
        """Return a store of the archive of all files: the signed link that Kaggle answers with."""
        url = self._download(version)
        answer = self._get(url, follow=False)
        answer.close()
        if location := answer.get_redirect_location():
            target = urljoin(url, location)
            own = urlsplit(target).netloc == urlsplit(url).netloc
            return http_store(target, self._headers if own else None)
        return http_store(url, self._headers)

    def file(self, version: str, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            Missing: there is none of this name.
            InputError: access is refused, or Kaggle does not answer.
        """
        data = self._get(f"{self._download(version)}&file_name={quote(name, safe='')}").data
        # Large tables come zipped, under their own name.
        if data.startswith(b"PK\3\4") and not name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                (member,) = archive.infolist()
                if member.file_size > MAX_CONTENT:
                    raise InputError(f"{name}: refused, it unpacks to {member.file_size} bytes")
                return archive.read(member)
        return data

    def _download(self, version: str) -> str:
        return f"{self._base}/download/{self._dataset}?dataset_version_number={version}"

    def _get(self, url: str, *, follow: bool = True) -> urllib3.BaseHTTPResponse:
        where = url.partition("?")[0]
        try:
            answer = ask(url, self._headers, follow=follow)
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", error)
            raise InputError(
                f"{where}: no complete answer ({type(reason).__name__}); check the network; what "
                "has been fetched is kept: run again to resume"
            ) from error
        if answer.status in (401, 403):
            state = "was refused" if self._headers else "is needed, and none was found"
            raise InputError(f"{where}: a Kaggle token {state}; {_HELP}")
        if answer.status == 404:
            raise Missing(f"{where}: Kaggle has no such data set, version or file")
        if answer.status >= 400:
            raise InputError(f"{where}: Kaggle answers {answer.status}; run again later to resume")
        return answer


def _authorization() -> dict[str, str]:
    """Return the header with the user's own token, from where Kaggle's tools look for it."""
    folder = _config_folder()
    token_file = folder / "access_token"
    token = os.environ.get("KAGGLE_API_TOKEN") or (
        token_file.read_text(encoding="utf-8") if token_file.is_file() else ""
    )
    if token.strip():
        return {"Authorization": f"Bearer {token.strip()}"}
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    file = folder / "kaggle.json"
    if not (user and key) and file.is_file():
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            user, key = saved["username"], saved["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: not a Kaggle token (username and key); {_HELP}") from error
    if not (user and key):
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def _config_folder() -> Path:
    """Return the folder of token files; the rule is that of the kaggle command line, 2.2."""
    if named := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(named).expanduser()
    usual = Path("~/.kaggle").expanduser()
    if usual.exists() or sys.platform != "linux":
        return usual
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "kaggle"
