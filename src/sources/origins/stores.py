"""A place -> files that can be listed and read by byte ranges, in our words for what goes wrong.

obstore does the work: connections, retries with backoff for 408, 429, 5xx and dropped connections,
signatures. Here is what it leaves open: links that expire, redirects that many ranges share,
answers that break off where the server gives no ETag to resume from, and messages that say what to
do.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import obstore
from obstore import exceptions
from obstore.store import HTTPStore, ObjectStore

from src.core.cli import InputError
from src.sources.local.paths import LeftOut, walk
from src.sources.origins.http import end_of_redirects
from src.sources.origins.members import are_text, joined

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
# obstore resumes a broken answer where the server names the version (ETag); others restart.
_ATTEMPTS = 4
_NO_ACCESS = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)


@dataclass(frozen=True)
class Stat:
    """What is known of one file."""

    size: int  # bytes
    version: str  # changes when the content does; empty where the server does not say
    ranges: bool = True  # the server sends parts of it


class Missing(Exception):  # noqa: N818 - not an error until somebody says so
    """A file is not there, or not what it should be; the message says why."""


class LocalStore:
    """The files in a folder of this machine."""

    is_local = True
    bytes_read = reads = 0  # of a network

    def __init__(self, folder: Path, *, follow_links: bool) -> None:
        """Read below `folder`; `follow_links`: also what links lead to outside of it."""
        self.url = str(folder)
        self.folder = folder
        self._follow_links = follow_links

    def list(self, left_out: LeftOut) -> Iterator[tuple[str, Stat]]:
        """Yield path and stat of every file."""
        paths = walk(self.folder, follow_links=self._follow_links, left_out=left_out)
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        is_text = are_text(names, self.url, left_out)
        for name in itertools.compress(names, is_text):
            yield name, self.stat(name)

    def stat(self, path: str) -> Stat:
        """Return what the file system says of a file; of a link to nowhere, that it is empty."""
        try:
            stat = (self.folder / path).stat()
        except FileNotFoundError:
            return Stat(0, "")
        return Stat(stat.st_size, str(stat.st_mtime_ns))


def client_options(url: str, headers: dict[str, str] | None = None) -> "ClientConfig":
    """Return how to talk to the server of `url`."""
    options: ClientConfig = {**_CLIENT, "allow_http": url.startswith("http:")}
    return options if headers is None else {**options, "default_headers": headers}


def http_store(url: str, headers: dict[str, str] | None = None) -> HTTPStore:
    """Return a store of the URL, which may be signed."""
    return HTTPStore(url, client_options=client_options(url, headers), retry_config=RETRY)


class _Access(NamedTuple):
    """Where a file is read, and what it is called there."""

    store: ObjectStore
    key: str


class Store:
    """The files below one URL, on a server. May be shared by threads."""

    is_local = False

    def __init__(self, url: str, connect: Callable[[], ObjectStore], help_access: str) -> None:
        """Read from what `connect` returns; it is called again when access ends (a signed link).

        `url` is for messages, `help_access` says what to do when access is refused.
        """
        self.url = url
        self.bytes_read = 0  # a measure for plans and benchmarks; threads may lose a count
        self.reads = 0  # as often, ranges or files
        self._connect = connect
        self._help_access = help_access
        self._store = connect()
        self._redirected: dict[str, _Access] = {}
        self._renewing = RLock()

    def list(self, left_out: LeftOut) -> Iterator[tuple[str, Stat]]:  # noqa: ARG002 - as LocalStore
        """Yield path and stat of every file, in no particular order.

        Raises:
            InputError: access is refused, or the server does not answer.
        """
        chunks = iter(obstore.list(self._store, chunk_size=1000))
        while chunk := self._explained("", lambda: next(chunks, None)):
            for meta in chunk:
                yield meta["path"], Stat(meta["size"], meta["e_tag"] or str(meta["last_modified"]))

    def stat(self, path: str) -> Stat:
        """Return what the server says of a file, in a request that signed links allow too.

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

    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes from `start` to before `end` of a file.

        Raises:
            Missing: there is no such file, or it ends before.
            InputError: access is refused, or the server does not answer.
        """
        if start == end:
            return memoryview(b"")
        data = self._measured(
            path, lambda store, key: memoryview(obstore.get_range(store, key, start=start, end=end))
        )
        if len(data) != end - start:
            raise Missing(f"ends at byte {start + len(data)}, not {end}")
        return data

    def read_all(self, path: str) -> memoryview:
        """Return the content of a file; errors as for `read`."""
        return self._measured(path, lambda store, key: memoryview(obstore.get(store, key).bytes()))

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces, without ranges; errors as for `read`."""
        pieces = iter(self._explained(path, lambda: obstore.get(*self._where(path))).stream())
        while piece := self._explained(path, lambda: next(pieces, b"")):
            self.bytes_read += len(piece)
            yield piece

    def _measured(self, path: str, ask: Callable[[ObjectStore, str], memoryview]) -> memoryview:
        data = self._retried(path, ask)
        self.bytes_read += len(data)
        self.reads += 1
        return data

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
        """Return whether to try once more, with renewed access where that was refused."""
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
                address = _address(self._store, path)
                end = end_of_redirects(address)
                followed = _Access(http_store(end), "") if end != address else None
                self._redirected[path] = followed or _Access(self._store, path)
            return self._redirected[path]

    def _explained(self, path: str, ask: Callable[[], Answer]) -> Answer:
        where = joined(self.url, path)
        try:
            return ask()
        except FileNotFoundError as error:
            raise Missing(f"{where}: not there") from error
        except exceptions.BaseError as error:
            raise InputError(f"{where}: {self._reason(str(error), error)}") from error

    def _reason(self, said: str, error: exceptions.BaseError) -> str:
        if "InvalidObjectState" in said:
            return (
                "archived (S3 Glacier), it cannot be read before it is restored: `aws s3api "
                "restore-object`, or a copy into the storage class STANDARD; then run again"
            )
        if "invalid path" in said:
            return (
                f"a key there is no plain path ({without_secrets(said)}); rename or delete the "
                "object (`aws s3 mv`), or set download.origin to a prefix without it"
            )
        if "CaUsedAsEndEntity" in said:
            return (
                "the server shows the certificate of an authority (CA:TRUE) as its own; issue one "
                "for the server: `openssl req -x509 -addext basicConstraints=CA:FALSE ...`"
            )
        if "InvalidCertificate" in said:
            return (
                "the server's certificate is not trusted; where its authority is your own, name "
                "the file (PEM): AWS_CA_BUNDLE for S3, SSL_CERT_FILE elsewhere"
            )
        # Listing has no error of its own for a refusal.
        if isinstance(error, _NO_ACCESS) or re.search(r"status code: 40[13]\b", said):
            return f"access refused; {self._help_access}"
        return (
            f"no complete answer ({without_secrets(said)}); what has been fetched is kept: run "
            "again to resume"
        )


def _is_link(store: ObjectStore) -> TypeGuard[HTTPStore]:
    """Return whether files are read from a web server without a token, which is for one host."""
    return isinstance(store, HTTPStore) and "default_headers" not in (store.client_options or {})


def _address(store: HTTPStore, path: str) -> str:
    """Return the URL of a file below that of its store, which may be signed."""
    parts = urlsplit(store.url)
    below = f"{parts.path.rstrip('/')}/{quote(path)}" if path else parts.path
    return urlunsplit(parts._replace(path=below))


def without_secrets(message: str) -> str:
    """Return the first line of a library's message without passwords and signatures in its URLs.

    Control characters of names are escaped.
    """
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message.splitlines()[0])
    # A password may itself hold an @: the last one before the path ends it.
    return re.sub(r"\?[^\s)]*", "", re.sub(r"//[^/\s]*@", "//", line))
