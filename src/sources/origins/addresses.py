"""`download.origin` -> the place that its files are in, opened with the user's own access to it."""

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from huggingface_hub import get_token, hf_hub_url
from obstore.store import ObjectStore, S3Store

from src.core.cli import InputError
from src.sources.local.paths import LeftOut
from src.sources.origins.http import ask
from src.sources.origins.stores import (
    RETRY,
    LocalStore,
    Missing,
    Stat,
    Store,
    client_options,
    http_store,
)

UNPACKED = (".zip", ".tar")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"
_WHOLE, _FOLLOW_LINKS = "#whole", "#follow-links"
_VARIABLE = re.compile(r"env:(\w+)")
_HUB_URL = re.compile(
    r"hf://datasets/(?P<repo>[^/@?]+/[^/@?]+)(?:@(?P<revision>[^/?]+))?/(?P<file>[^?]+)"
)
_HUB_ACCESS = "run `hf auth login`, or set HF_TOKEN, and accept the data set's terms on its page"


class Address(NamedTuple):
    """What `download.origin` says."""

    url: str  # may hold secrets
    whole: bool  # archives are downloaded before they are listed
    follow_links: bool  # out of a folder of this machine


@dataclass(frozen=True)
class Place:
    """An archive, or everything in a store."""

    store: Store | LocalStore
    url: str  # for the manifest: without secrets, never a path of this machine
    file: str  # of an archive; "" where the URL itself is one
    archive: str  # its kind, see `archive_kind`; "" for a folder
    version: str  # pinned by the URL; "" where only the files have one


def parse_address(origin: str) -> Address:
    """Return what `download.origin` says; `env:NAME` stands for the value of a variable.

    Raises:
        InputError: the variable is not set, or a secret stands in `origin` itself, which Git, the
            lock file and the report keep; no message repeats it.
    """
    url = origin.removesuffix(_WHOLE).removesuffix(_FOLLOW_LINKS)
    if (named := _VARIABLE.fullmatch(url)) is None:
        _check_public(url)
    elif not (url := os.environ.get(named[1], "")):
        raise InputError(
            f"download.origin = {origin!r}: the environment variable {named[1]} is not set; set it "
            "to the address"
        )
    return Address(url, origin.endswith(_WHOLE), origin.endswith(_FOLLOW_LINKS))


def _check_public(url: str) -> None:
    if scheme_of(url) in ("", "s3"):  # S3 has a message of its own
        return
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise InputError(
            f"download.origin = {public_url(url)!r} and more: a user, password or signature (?...) "
            "would be kept by Git, dvc.lock and the report; put the whole address into an "
            "environment variable, `export DATA_URL=...`, and set download.origin to env:DATA_URL"
        )


def find_place(address: Address) -> Place:
    """Return what an address (s3, http, https, hf, or a path) points to.

    Raises:
        InputError: the URL is malformed, its scheme unknown, or access to it is refused; the
            message does not repeat passwords and signatures.
    """
    url, scheme = address.url, scheme_of(address.url)
    openers = {"s3": _s3, "http": _http, "https": _http, "hf": _hub}
    if not scheme:
        return _local(url, follow_links=address.follow_links)
    if scheme not in openers:
        known = ", ".join(f"{name}://" for name in sorted([*openers, "kaggle"]))
        raise InputError(
            f"download.origin = {public_url(url)!r}: unknown scheme; use {known} or a path"
        )
    return openers[scheme](url)


def scheme_of(url: str) -> str:
    """Return the scheme of a URL that can be taken apart, "" for a path."""
    if "://" not in url:
        return ""
    try:
        parts = urlsplit(url)
        _ = parts.port  # where half a password comes to stand if it holds a slash
    except ValueError as error:
        # The URL is not repeated: which part of it is a password is unknown.
        raise InputError(
            "download.origin: its host and port cannot be read; expected scheme://host[:port]/path,"
            " with / and @ in a user or password written as %2F and %40"
        ) from error
    return parts.scheme


def public_url(url: str) -> str:
    """Return a URL without what may be secret: user, password, query; a path as it is."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def archive_kind(name: str) -> str:
    """Return the suffix that makes a file an archive, "" for other files."""
    lower = name.lower()
    return next((kind for kind in UNPACKED + COMPRESSED if lower.endswith(kind)), "")


def _looked_for(path: Path) -> str:
    """Return where a relative path was looked for: experiments run in folders of their own."""
    if path.is_absolute():
        return ""
    return (
        f"; looked for {path.absolute()}, which in an experiment of --temp or --queue is a copy of "
        "the project: give an absolute path"
    )


def _local(url: str, *, follow_links: bool) -> Place:
    path = Path(url).expanduser()
    if not url or not path.exists():
        raise InputError(f"download.origin = {url!r}: no such file or directory{_looked_for(path)}")
    kind = archive_kind(path.name) if path.is_file() else ""
    if path.is_file() and not kind:
        raise InputError(f"download.origin = {url!r}: neither a directory nor {ARCHIVES}")
    folder = (path.parent if kind else path).resolve()
    store = LocalStore(folder, follow_links=follow_links)
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
    """The files below a prefix of a bucket; where there are none, it says what to check."""

    def list(self, left_out: LeftOut) -> Iterator[tuple[str, Stat]]:
        with self._helping():
            yield from super().list(left_out)

    def stat(self, path: str) -> Stat:
        with self._helping():
            return super().stat(path)

    @contextmanager
    def _helping(self) -> Iterator[None]:
        try:
            yield
        except Missing as error:
            raise Missing(f"{error}; check the names of bucket and file{self._hint()}") from error
        except InputError as error:
            cause = str(error.__cause__)
            if "NoSuchBucket" in cause:  # listing has no error of its own for it
                error = InputError(f"{self.url}: no such bucket; check its name")
            raise InputError(f"{error}{self._hint()}") from error

    def _hint(self) -> str:
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

    # botocore finds all this where the AWS tools do: variables, profiles.
    session = botocore.session.get_session()
    settings = session.get_scoped_config()
    endpoint = ConfiguredEndpointProvider(session.full_config, settings, "s3").provide()
    anonymous = session.get_credentials() is None
    options = client_options(endpoint or "")
    if authority := session.get_config_variable("ca_bundle"):
        options["root_certificate"] = _certificates(Path(authority).expanduser())
    return S3Store(
        bucket,
        prefix=folder or None,
        client_options=options,
        retry_config=RETRY,
        credential_provider=None if anonymous else Boto3CredentialProvider(session),
        skip_signature=anonymous,
        **({"endpoint": endpoint} if endpoint else {}),
        region=session.get_config_variable("region") or "us-east-1",
    )


def _certificates(path: Path) -> bytes:
    try:
        ssl.create_default_context(cafile=path)
        return path.read_bytes()
    except OSError as error:  # of the file, or of what is in it
        raise InputError(
            f"AWS_CA_BUNDLE or ca_bundle = {str(path)!r}: no file of certificates (PEM): {error}"
        ) from error


def _http(url: str) -> Place:
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    if not (kind := archive_kind(name)):
        raise InputError(
            f"download.origin = {public_url(url)!r}: only {ARCHIVES} can be read from a server"
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
    store = Store(name, lambda: _hub_link(repo, file, commit)[0], _HUB_ACCESS)
    return Place(store, name, "", archive_kind(file), commit)


def _hub_link(repo: str, file: str, revision: str | None) -> tuple[ObjectStore, str]:
    """Return a store of the signed link behind a file, which lasts for an hour, and the commit."""
    url = hf_hub_url(repo, file, repo_type="dataset", revision=revision)
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = ask(url, headers, method="HEAD")
        if (location := answer.get_redirect_location() or "").startswith("/"):  # another name
            url = urljoin(url, location)
            answer = ask(url, headers, method="HEAD")
    except urllib3.exceptions.HTTPError as error:
        reason = type(getattr(error, "reason", error)).__name__
        raise InputError(f"{url}: no answer ({reason}); check the network, run again") from error
    if answer.status >= 400:
        said = answer.headers.get("X-Error-Message") or f"status {answer.status}"
        raise InputError(
            f"{url}: {said.rstrip('.')}; check its name, and if the data set is not public, "
            f"{_HUB_ACCESS}"
        )
    location = urljoin(url, answer.get_redirect_location() or url)
    # The token is for the hub alone: links lead to other hosts.
    own = urlsplit(location).netloc == urlsplit(url).netloc
    return http_store(location, headers if own and token else None), answer.headers.get(
        "X-Repo-Commit", ""
    )
