"""A folder -> an S3 server on this machine that keeps its data, address and credentials."""

import argparse
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from src.core.cli import InputError, run
from src.core.files import read_json, replacing
from tools.remote.s3_server import HOST, Identity, S3Server, free_ports

logger = logging.getLogger(__name__)

BUCKET = "real-or-generated"
POLL_SECONDS = 0.5


def load_server(folder: Path) -> tuple[S3Server, Identity]:
    """Return the server of `folder` and its owner; both are the same at every call.

    The first call draws the credentials and the ports and keeps them, for this user's eyes only, in
    `server.json`: whatever is configured for this server finds it again.

    Raises:
        InputError: `server.json` is not what an earlier call wrote.
    """
    path = folder / "server.json"
    if not path.exists():
        _write_private(
            {
                "access_key": secrets.token_hex(10),
                "secret_key": secrets.token_urlsafe(30),
                "ports": free_ports(),
            },
            path,
        )
    try:
        kept = read_json(path)
        owner = Identity("owner", kept["access_key"], kept["secret_key"])
        return S3Server(folder, BUCKET, [owner], kept["ports"]), owner
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} is not readable as server settings ({error!r}): delete it, and "
            "new credentials are drawn; the data stay"
        ) from error


def serve(folder: Path, stop: threading.Event) -> None:
    """Serve `folder` until `stop` is set; print how to use the server.

    Raises:
        InputError: the server did not start, or it ended by itself.
    """
    server, owner = load_server(folder)
    _check_ports(server)
    with server:
        sys.stdout.write(_instructions(server, owner))
        sys.stdout.flush()
        while not stop.wait(POLL_SECONDS):
            if not server.running:
                raise InputError(f"the S3 server ended by itself; its log: {folder / 'weed.log'}")
    sys.stdout.write("stopped; the data stay in " + str(folder) + "\n")


def _instructions(server: S3Server, owner: Identity) -> str:
    return f"""S3 on {server.endpoint}, data in {server.folder}. In another terminal:

  export AWS_ACCESS_KEY_ID={owner.access_key}
  export AWS_SECRET_ACCESS_KEY={owner.secret_key}
  make remote URL=s3://{server.bucket}/dvc ENDPOINT={server.endpoint}

To read images from it as well (download.origin: s3://{server.bucket}/...):

  export AWS_ENDPOINT_URL={server.endpoint}

Ctrl-C stops it; the same address and keys serve the same data next time.
"""


def _check_ports(server: S3Server) -> None:
    for port in server.ports:
        try:
            socket.create_server((HOST, port)).close()
        except OSError as error:
            raise InputError(
                f"port {port} of {HOST} is taken ({error.strerror}): is `make s3` running in "
                "another terminal? To draw other ports and keys, delete "
                f"{server.folder / 'server.json'}: the data stay"
            ) from error


def _write_private(document: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C, SIGTERM or the end of the terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # `nohup` has the end of the terminal ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    serve(folder, stop)


if __name__ == "__main__":
    run(main)
