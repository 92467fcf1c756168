"""The command line of the server: where it listens, and what it takes at most."""

import argparse
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from judge.command_line import MODELS, up_to
from src.core.cli import InputError, run

logger = logging.getLogger("judge.server")

EXPOSED = (
    "anyone who reaches this machine at port %d can use it, without a password and unencrypted: "
    "put a proxy with TLS and a login before it, or leave --host away"
)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def build_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m judge.server", description="Serve the page and the HTTP API."
    )
    add = parser.add_argument
    add("--host", default=LOOPBACK[0], help="address to listen at; %(default)s: this machine alone")
    add("--port", type=int, default=8000, help="(%(default)s)")
    add("--models", type=Path, default=MODELS, metavar="DIR", help="(%(default)s)")
    add("--runtime", choices=("auto", "onnx", "torch"), default="auto", help="see python -m judge")
    add("--workers", type=up_to(256), default=2, help="processes that judge (%(default)s)")
    add("--queue", type=up_to(10**5), default=64, help="images that may wait (%(default)s)")
    add("--seconds", type=up_to(3600), default=30, help="that an image may take (%(default)s)")
    add("--megapixels", type=up_to(268), default=64, help="of an image (%(default)s)")
    add("--megabytes", type=up_to(2048), default=64, help="of a request (%(default)s)")
    add("--files", type=up_to(10**4), default=100, help="of a request (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until interrupted.

    Raises:
        InputError: there is no trained model, the port is taken, or a package is missing.
    """
    args = build_parser().parse_args(argv)
    try:
        import uvicorn  # not for --help

        from judge.server.app import build_app
    except ModuleNotFoundError as error:
        raise InputError(
            f"no module {error.name}: install the extra, `real-or-generated[server]`"
        ) from error
    from judge.server.workers import Limits

    limits = Limits(args.seconds, args.megapixels, args.megabytes, args.queue, args.files)
    listener = _listen(args.host, args.port)
    port = listener.getsockname()[1]
    hosts = None if args.host not in LOOPBACK else LOOPBACK
    app = build_app(args.models, args.runtime, args.workers, limits, hosts)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    if hosts is None:
        logger.warning(EXPOSED, port)
    name = f"[{args.host}]" if ":" in args.host else args.host
    logger.info("http://%s:%d; Ctrl-C stops it", name, port)
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # from now on who connects is served, or waits until it starts
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: {reason}; choose another") from error
    return listener


if __name__ == "__main__":
    run(main)
