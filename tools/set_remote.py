"""An address -> .dvc/config: where `make push` and `dvc pull` keep the data, and no secrets."""

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dvc.repo import Repo

from src.core.cli import InputError, run
from tools.dvc_files import editing
from tools.remote.s3_errors import in_one_line

logger = logging.getLogger("remote")

NAME = "storage"
SECRETS = ("access_key_id", "secret_access_key", "session_token", "password", "sse_customer_key")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Amazon made such buckets until 2018, and other servers still do.
OLD_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
WHERE_SECRETS_GO = (
    "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from a "
    "profile (AWS_PROFILE), never from a file that Git keeps"
)


def set_remote(repo: Repo, name: str, url: str, endpoint: str | None) -> bool:
    """Make `url` the default remote of `repo`, with every pulled object verified.

    Other settings of an existing remote of that name (region, profile) stay. Returns whether
    .dvc/config changed.

    Raises:
        InputError: the address is wrong or holds credentials, or .dvc/config holds secrets.
    """
    check_url(url)
    check_endpoint(url, endpoint)
    path = Path(repo.config.files["repo"])
    before = path.read_bytes()
    written = _as_written(url, repo)
    if not written.isascii():
        raise InputError(
            f"URL={written}: DVC writes ASCII alone into .dvc/config; for a folder, name one whose "
            "path is ASCII (sudo mount --bind gives it a second name)"
        )
    with editing(repo, "repo") as document:
        settings = document["remote"].setdefault(name, {})
        if found := [key for key in SECRETS if key in settings]:
            raise InputError(
                f"{path}: remote {name!r} holds {found}: delete them; {WHERE_SECRETS_GO}"
            )
        settings.update(url=written, verify="true")
        settings.pop("endpointurl", None)
        if endpoint is not None:
            settings["endpointurl"] = endpoint
        document["core"]["remote"] = name
    return path.read_bytes() != before


def check_url(url: str) -> None:
    """Check that `url` is `s3://bucket/path` or a folder.

    Raises:
        InputError: it is neither, or credentials stand in it; the message does not repeat them.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise InputError(f"the address holds more than bucket and path: {WHERE_SECRETS_GO}")
    match parts.scheme:
        case "s3":
            if not OLD_BUCKET_NAME.fullmatch(parts.netloc):
                raise InputError(
                    f"URL={url}: {parts.netloc!r} is not a bucket name; expected s3://bucket/path"
                )
            if not BUCKET_NAME.fullmatch(parts.netloc):
                logger.warning(
                    "URL=%s: Amazon allows no new bucket of the name %r (a-z, 0-9, . and - alone); "
                    "old ones and other servers may have it",
                    url,
                    parts.netloc,
                )
        case "":
            if not url or Path(url).is_file():
                raise InputError(f"URL={url}: expected s3://bucket/path or a folder")
        case other:
            raise InputError(
                f"URL={url}: {other}:// is not known here; expected s3://bucket/path "
                "or a folder (DVC knows more: `dvc remote add --help`)"
            )


def check_endpoint(url: str, endpoint: str | None) -> None:
    """Check that `endpoint`, if any, is the root of an HTTP server and has a use.

    Raises:
        InputError: it is not; the message does not repeat credentials.
    """
    if endpoint is None:
        return
    if "@" in endpoint:
        raise InputError(f"the endpoint holds credentials: {WHERE_SECRETS_GO}")
    if set("?#") & set(endpoint) or not endpoint.isascii():
        raise InputError(f"the endpoint holds more than http(s)://host[:port]: {WHERE_SECRETS_GO}")
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError as error:
        # Not repeated: a password may stand where a port is expected.
        raise InputError(
            "the endpoint's host and port cannot be read: expected http(s)://host[:port] with a "
            "port from 0 to 65535"
        ) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise InputError(f"ENDPOINT={endpoint}: expected http(s)://host[:port], without a path")
    if not url.startswith("s3://"):
        raise InputError(f"ENDPOINT={endpoint} is of no use with the folder {url}")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        logger.warning("%s is not encrypted: whoever sees the traffic sees the data", endpoint)


def _as_written(url: str, repo: Repo) -> str:
    if url.startswith("s3://"):
        return url.rstrip("/")
    # A path typed here is meant from here; DVC keeps paths relative to its configuration.
    return str(Path(repo.root_dir, Path(url).expanduser()).resolve())


def main(argv: Sequence[str] | None = None) -> None:
    """Write .dvc/config and say what comes next."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="s3://bucket/path, or a folder")
    parser.add_argument("--endpoint", help="http(s)://host[:port] of a server other than AWS")
    parser.add_argument("--name", default=NAME)
    args = parser.parse_args(argv)
    with in_one_line(), Repo() as repo:
        changed = set_remote(repo, args.name, args.url, args.endpoint or None)
    state = "written" if changed else "unchanged"
    logger.info(".dvc/config %s; next: make doctor, git commit .dvc/config, make push", state)


if __name__ == "__main__":
    run(main)
