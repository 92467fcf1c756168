"""URL -> the store that its files are in, opened with the user's own access to it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from httpx2 import HTTPError, TransportError
from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
from obstore.store import HTTPStore, LocalStore, ObjectStore, S3Store

from src.core.cli import InputError
from src.sources.origins.stores import RETRY, Missing, Stat, Store, client_options, public_url

ARCHIVES = (".zip", ".tar")
_HUB_URL = re.compile(
    r"hf://datasets/(?P<repo>[^/@?]+/[^/@?]+)(?:@(?P<revision>[^/?]+))?/(?P<file>[^?]+)"
)


@dataclass(frozen=True)
class Place:
    """An archive, or everything in a store."""

    store: Store
    url: str  # for the manifest: without secrets, never a path of this machine
    file: str  # of an archive; "" where the URL itself is one
    archive: str  # its kind, one of ARCHIVES; "" for a folder
    version: str  # pinned by the URL; "" where only the files have one


def find_place(url: str) -> Place:
    """Return what `url` (s3, http, https, hf, or a path) points to.

    Raises:
        InputError: the URL is malformed, its scheme unknown, or access to it is refused; the
            message does not repeat passwords and signatures.
    """
    scheme = _scheme(url)
    openers = {"": _local, "s3": _s3, "http": _http, "https": _http, "hf": _hub}
    if scheme not in openers:
        known = ", ".join(f"{name}://" for name in sorted([*openers, "kaggle"]) if name)
        raise InputError(
            f"download.origin = {public_url(url)!r}: unknown scheme; use {known} or a path"
        )
    return openers[scheme](url)


def _scheme(url: str) -> str:
    """Return the scheme of a URL that can be taken apart, "" for a path."""
    if "://" not in url:
        return ""
    try:
        parts = urlsplit(url)
        _ = parts.port  # where half a password comes to stand if it holds a slash
    except ValueError as error:
        # The URL is not repeated: which part of it is a password cannot be told.
        raise InputError(
            "download.origin: its host and port cannot be read; expected scheme://host[:port]/path,"
            " with / and @ in a user or password written as %2F and %40"
        ) from error
    return parts.scheme


def http_store(url: str, headers: dict[str, str] | None = None) -> HTTPStore:
    """Return a store of the URL, which may be signed."""
    return HTTPStore(url, client_options=client_options(url, headers), retry_config=RETRY)


def archive_kind(name: str) -> str:
    """Return the kind of archive that a file is by its name, "" for other files."""
    return next((kind for kind in ARCHIVES if name.lower().endswith(kind)), "")


def _local(url: str) -> Place:
    path = Path(url).expanduser()
    if not url or not path.exists():
        raise InputError(f"download.origin = {url!r}: no such file or directory")
    kind = archive_kind(path.name) if path.is_file() else ""
    if path.is_file() and not kind:
        raise InputError(f"download.origin = {url!r}: neither a directory nor a .zip or .tar")
    folder = str((path.parent if kind else path).resolve())
    store = Store(folder, lambda: LocalStore(folder), "check its permissions", is_local=True)
    return Place(store, path.resolve().name, path.name if kind else "", kind, "")


def _s3(url: str) -> Place:
    parts = urlsplit(url)
    if set("@:") & set(parts.netloc) or parts.query:
        raise InputError(
            "download.origin holds more than s3://bucket/path: credentials come from the "
            "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from a profile "
            "(AWS_PROFILE), never from a file that Git keeps"
        )
    key = parts.path.strip("/")
    kind = archive_kind(key)
    folder, _, name = key.rpartition("/") if kind else (key, "", "")
    where = f"s3://{parts.netloc}/{folder}".rstrip("/")
    store = _S3(
        where,
        lambda: _s3_store(parts.netloc, folder),
        "check AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION; "
        "AWS_SKIP_SIGNATURE=true reads as nobody",
    )
    return Place(store, f"s3://{parts.netloc}/{key}", name, kind, "")


class _S3(Store):
    """The files below a prefix of a bucket; where none can be had, it says what to check."""

    def list(self) -> Iterator[tuple[str, Stat]]:
        with self._helping():
            yield from super().list()

    def stat(self, path: str) -> Stat:
        with self._helping():
            return super().stat(path)

    @contextmanager
    def _helping(self) -> Iterator[None]:
        try:
            yield
        except Missing as error:
            raise Missing(f"{error}; check the names of bucket and file{self._asked()}") from error
        except InputError as error:
            # Listing has no error of its own for a bucket that is not there.
            gone = "NoSuchBucket" in str(error.__cause__)
            said = f"{self.url}: no such bucket; check its name" if gone else str(error)
            raise InputError(said + self._asked()) from error

    def _asked(self) -> str:
        """Return a hint where Amazon was asked because nothing else is known."""
        assert isinstance(self._store, S3Store)
        if "endpoint" in self._store.config:
            return ""
        return "; AWS_ENDPOINT_URL is not set, so Amazon was asked: set it if S3 is another server"


def _s3_store(bucket: str, folder: str) -> S3Store:
    # Imported for S3 alone: it takes longer than all other imports of this module.
    import botocore.session
    from botocore.configprovider import ConfiguredEndpointProvider
    from obstore.auth.boto3 import Boto3CredentialProvider

    # botocore finds endpoint, region and credentials where the AWS tools do: variables, profiles.
    session = botocore.session.get_session()
    settings = session.get_scoped_config()
    endpoint = ConfiguredEndpointProvider(session.full_config, settings, "s3").provide()
    anonymous = session.get_credentials() is None
    return S3Store(
        bucket,
        prefix=folder or None,
        client_options=client_options(endpoint or ""),
        retry_config=RETRY,
        credential_provider=None if anonymous else Boto3CredentialProvider(session),
        skip_signature=anonymous,
        **({"endpoint": endpoint} if endpoint else {}),
        region=session.get_config_variable("region") or "us-east-1",
    )


def _http(url: str) -> Place:
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    kind = archive_kind(name)
    if not kind:
        raise InputError(
            f"download.origin = {public_url(url)!r}: only a .zip or .tar can be read from a server"
        )
    base = urlunsplit((parts.scheme, parts.netloc, folder, parts.query, ""))
    store = Store(public_url(base), lambda: http_store(base), "check that it can be read by anyone")
    return Place(store, public_url(url), unquote(name), kind, "")


def _hub(url: str) -> Place:
    match = _HUB_URL.fullmatch(url)
    if match is None or not archive_kind(url):
        raise InputError(
            f"download.origin = {public_url(url)!r}: expected "
            "hf://datasets/OWNER/NAME[@REVISION]/PATH.zip"
        )
    repo, revision, file = match.group("repo", "revision", "file")
    # Named by its commit from here on: what is listed is what is read.
    _, commit = _hub_link(repo, file, revision)
    name = f"hf://datasets/{repo}@{commit}/{file}"
    store = Store(
        name,
        lambda: _hub_link(repo, file, commit)[0],
        "run `hf auth login`, or set HF_TOKEN, and accept the data set's terms on its page",
    )
    return Place(store, name, "", archive_kind(file), commit)


def _hub_link(repo: str, file: str, revision: str | None) -> tuple[ObjectStore, str]:
    """Return a store of the signed link behind a file, which lasts for an hour, and the commit."""
    url = hf_hub_url(repo, file, repo_type="dataset", revision=revision)
    try:
        found = get_hf_file_metadata(url, retry_on_errors=True)
    except HTTPError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        if isinstance(error, TransportError):
            raise InputError(f"{url}: no answer ({said}); check the network, run again") from error
        raise InputError(
            f"{url}: {said}; check its name, and if the data set is not public, run `hf auth "
            "login`, or set HF_TOKEN"
        ) from error
    # The token is for the hub alone: links lead to other hosts.
    own = urlsplit(found.location).netloc == urlsplit(url).netloc
    token = get_token() if own else None
    headers = {"Authorization": f"Bearer {token}"} if token else None
    return http_store(found.location, headers), found.commit_hash or ""
