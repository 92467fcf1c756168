"""URL -> files that can be listed and read by byte ranges: obstore, with our words for its errors.

obstore does the work: connections, retries with backoff for 408, 429, 5xx and dropped connections,
signatures. Here is what it leaves open: links that expire, redirects that many ranges share,
answers that break off where the server gives no ETag to go on from, and messages that say what to
do.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import obstore
from obstore import exceptions
from obstore.store import HTTPStore, ObjectStore

from src.core.cli import InputError
from src.sources.origins.http_ranges import Parts, Span, Web
from src.sources.origins.in_flight import MOST_IN_FLIGHT

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

Answer = TypeVar("Answer")

# A stalled connection counts as dropped after `read_timeout`; a large file may take its time.
_CLIENT: "ClientConfig" = {"connect_timeout": "15s", "read_timeout": "60s", "timeout": "24h"}
RETRY: "RetryConfig" = {
    "max_retries": 8,
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=15),
        "base": 2,
    },
    "retry_timeout": timedelta(minutes=4),
}
# obstore goes on after a broken answer where the server names the version (ETag); others restart.
_ATTEMPTS = 4
_NO_ACCESS = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


@dataclass(frozen=True)
class Stat:
    """What a server says of one file."""

    size: int  # bytes
    version: str  # changes when the content does; empty where the server does not say
    ranges: bool = True  # the server sends parts of it


class Missing(Exception):  # noqa: N818 - not an error until somebody says so
    """A file is not there, or not what it should be; the message says why."""


def client_options(url: str, headers: dict[str, str] | None = None) -> "ClientConfig":
    """Return how to talk to the server of `url`."""
    options: ClientConfig = {**_CLIENT, "allow_http": url.startswith("http:")}
    return options if headers is None else {**options, "default_headers": headers}


class _Access(NamedTuple):
    """Where a file is read, and what it is called there."""

    store: ObjectStore
    key: str


class Store:
    """The files below one URL. May be shared by threads."""

    def __init__(
        self,
        url: str,
        connect: Callable[[], ObjectStore],
        help_access: str,
        *,
        is_local: bool = False,
    ) -> None:
        """Read from what `connect` returns; it is called again when access ends (a signed link).

        `url` is for messages, `help_access` says what to do when access is refused.
        """
        self.url = url
        self.is_local = is_local
        self.bytes_read = 0  # a measure for plans and benchmarks; threads may lose a count
        self.reads = 0  # as often, ranges or files that were asked for
        self._connect = connect
        self._help_access = help_access
        self._store = connect()
        self._redirected: dict[str, _Access] = {}
        self._renewing = RLock()
        self._sends_many: bool | None = None

    def where(self, path: str) -> str:
        """Return what messages call a file."""
        return "/".join(filter(None, (self.url, path)))

    def list(self) -> Iterator[tuple[str, Stat]]:
        """Yield path and stat of every file, in no particular order.

        Raises:
            InputError: access is refused, or the server does not answer.
        """
        chunks = iter(obstore.list(self._store, chunk_size=1000))
        while chunk := self._explained("", lambda: next(chunks, None)):
            for meta in chunk:
                yield meta["path"], Stat(meta["size"], meta["e_tag"] or str(meta["last_modified"]))

    def stat(self, path: str) -> Stat:
        """Return what the server says of a file, asked for in a way that signed links allow too.

        Raises:
            Missing: there is no such file.
            InputError: access is refused, or the server does not answer.
        """
        # Not HEAD: a link that is signed for GET refuses it. One byte tells the size as well.
        options: GetOptions = {"range": (0, 1)}

        def ask(store: ObjectStore, key: str) -> Stat:
            try:
                meta = obstore.get(store, key, options=options).meta
            except exceptions.NotSupportedError:
                meta = obstore.head(store, key)
                return Stat(meta["size"], meta["e_tag"] or "", ranges=False)
            return Stat(meta["size"], meta["e_tag"] or "")

        return self._retried(path, ask)

    def read(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end` of a file.

        Raises:
            Missing: there is no such file, or it ends before.
            InputError: access is refused, or the server does not answer.
        """
        return bytes(self.view(path, start, end))

    def view(self, path: str, start: int, end: int) -> memoryview:
        """Return what `read` does without a copy of it."""
        if start == end:
            return memoryview(b"")
        data = self._measured(
            path, lambda store, key: memoryview(obstore.get_range(store, key, start=start, end=end))
        )
        if len(data) != end - start:
            raise Missing(f"ends at byte {start + len(data)}, not {end}")
        return data

    def read_all(self, path: str) -> bytes:
        """Return the content of a file; errors as for `read`."""
        return bytes(
            self._measured(path, lambda store, key: memoryview(obstore.get(store, key).bytes()))
        )

    def sends_many(self, path: str, spans: Sequence[Span]) -> bool:
        """Return whether the server answers many ranges at once, as it is tried once: with these.

        Web servers may. S3 does not.
        """
        if self._sends_many is None:
            self._sends_many = self.view_many(path, spans) is not None
        return self._sends_many

    def view_many(self, path: str, spans: Sequence[Span]) -> Parts | None:
        """Return what `view` does of many ranges, with one request that is not repeated.

        None where it fails: `view` of each repeats, renews access and says what is wrong.
        """
        store, key = self._where(path)
        if not _is_link(store) or any(start == end for start, end in spans):
            return None
        parts = self._web.read_spans(_address(store, key), spans)
        if parts is not None:
            self._count(sum(map(len, parts)), len(parts))
        return parts

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces, without ranges; errors as for `read`."""
        pieces = iter(self._explained(path, lambda: obstore.get(*self._where(path))).stream())
        while piece := self._explained(path, lambda: next(pieces, b"")):
            self.bytes_read += len(piece)
            yield piece

    def _measured(self, path: str, ask: Callable[[ObjectStore, str], memoryview]) -> memoryview:
        data = self._retried(path, ask)
        self._count(len(data), 1)
        return data

    def _count(self, size: int, reads: int) -> None:
        self.bytes_read += size
        self.reads += reads

    def _retried(self, path: str, ask: Callable[[ObjectStore, str], Answer]) -> Answer:
        def attempts() -> Answer:
            for attempt in range(1, _ATTEMPTS):
                access = self._where(path)
                try:
                    return ask(*access)
                except exceptions.BaseError as error:
                    if not self._may_help(error, path, access, attempt):
                        raise
            return ask(*self._where(path))

        return self._explained(path, attempts)

    def _may_help(
        self, error: exceptions.BaseError, path: str, access: _Access, attempt: int
    ) -> bool:
        """Return whether to ask once more, with renewed access where that was refused."""
        if isinstance(error, _NO_ACCESS) and attempt == 1:
            with self._renewing:  # by one of the threads that were refused together
                if self._where(path).store is access.store:
                    self._store, self._redirected = self._connect(), {}
            return True
        # Every other failure has been retried by obstore itself, with backoff.
        return isinstance(error, exceptions.GenericError) and "body error" in str(error)

    def _where(self, path: str) -> _Access:
        """Return where a file is read: behind its redirects, which are followed once a link.

        A site that redirects takes as many questions as there are ranges for an attack.
        """
        if not _is_link(self._store):
            return _Access(self._store, path)
        with self._renewing:
            if path not in self._redirected:
                self._redirected[path] = self._follow(self._store, path)
            return self._redirected[path]

    def _follow(self, store: HTTPStore, path: str) -> _Access:
        address = _address(store, path)
        end = self._web.end_of_redirects(address)
        if end == address:
            return _Access(store, path)
        options = client_options(end)
        return _Access(HTTPStore(end, client_options=options, retry_config=store.retry_config), "")

    @cached_property
    def _web(self) -> Web:
        return Web(MOST_IN_FLIGHT)

    def _explained(self, path: str, ask: Callable[[], Answer]) -> Answer:
        where = self.where(path)
        try:
            return ask()
        except FileNotFoundError as error:
            raise Missing(f"{where}: not there") from error
        except exceptions.BaseError as error:
            # Listing has no error of its own for a refusal.
            if isinstance(error, _NO_ACCESS) or re.search(r"status code: 40[13]\b", str(error)):
                raise InputError(f"{where}: access refused; {self._help_access}") from error
            raise InputError(
                f"{where}: no complete answer ({without_secrets(str(error))}); what has been "
                "fetched is kept: run again to go on"
            ) from error


def _is_link(store: ObjectStore) -> TypeGuard[HTTPStore]:
    """Return whether files are read from a web server without a token, which is for one host."""
    return isinstance(store, HTTPStore) and "default_headers" not in (store.client_options or {})


def _address(store: HTTPStore, path: str) -> str:
    """Return the URL of a file below that of its store, which may be signed."""
    parts = urlsplit(store.url)
    below = f"{parts.path.rstrip('/')}/{quote(path)}" if path else parts.path
    return urlunsplit(parts._replace(path=below))


def without_secrets(message: str) -> str:
    """Return the first line of a library's message without passwords and signatures in its URLs."""
    # A password may itself hold an @: the last one before the path ends it.
    return re.sub(r"\?[^\s)]*", "", re.sub(r"//[^/\s]*@", "//", message.splitlines()[0]))


def public_url(url: str) -> str:
    """Return a URL without what may be secret: user, password, query; a path as it is."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
