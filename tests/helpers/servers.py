"""Servers on 127.0.0.1 that tests read from: plain HTTP, stand-ins for Kaggle and the HF hub."""

import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_PIECE = 2**16


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case


@dataclass
class Answer:
    """What the server says; `cut`: it hangs up after that many bytes of the body."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


class _Quiet(ThreadingHTTPServer):
    """Takes clients that are killed for what they are, and as many at once as they like."""

    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


Handle = Callable[[Request], Answer]


class Server:
    """Answers with `handle`, and remembers requests and the bytes that it sent."""

    def __init__(self, handle: Handle, tls: ssl.SSLContext | None = None) -> None:
        self.handle = handle
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self._counting = threading.Lock()
        self._http = _Quiet(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _write(self, connection: BufferedIOBase, body: bytes) -> None:
        for begin in range(0, len(body), _PIECE):  # until the client hangs up
            piece = body[begin : begin + _PIECE]
            with self._counting:  # before the client has it: it may ask at once how many
                self.bytes_sent += len(piece)
            connection.write(piece)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, unquote(url.path), query, headers)
                server.requests.append(request)
                self._send(server.handle(request))

            do_HEAD = do_GET  # noqa: N815

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command == "HEAD":
                    return
                body = answer.body if answer.cut is None else answer.body[: answer.cut]
                server._write(self.wfile, body)
                if answer.cut is not None:
                    self.wfile.flush()
                    self.close_connection = True

        return Handler


def part_of(data: bytes, request: Request, *, ranges: bool = True, etag: str = "v1") -> Answer:
    """Return all of `data`, or the part that a Range header asks for; of many ranges, nothing."""
    headers = {"ETag": f'"{etag}"'} if etag else {}
    asked = request.headers.get("range", "")
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if ranges and "," in asked:
        return Answer(416)
    if not ranges or match is None:
        return Answer(200, data, headers)
    begin, end = int(match[1]), min(int(match[2] or len(data)) + 1, len(data))
    if begin >= len(data):
        return Answer(416)
    where = {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}", "Accept-Ranges": "bytes"}
    return Answer(206, data[begin:end], headers | where)


@contextmanager
def serving(
    files: Mapping[str, bytes], *, ranges: bool = True, etag: str = "v1"
) -> Iterator[Server]:
    """Serve `files` by path, as a plain web server does; `server.handle` may be replaced."""

    def handle(request: Request) -> Answer:
        data = files.get(request.path.lstrip("/"))
        return Answer(404) if data is None else part_of(data, request, ranges=ranges, etag=etag)

    with Server(handle) as server:
        yield server


@dataclass
class Kaggle:
    """The documented calls of Kaggle for one data set, `owner/name` in version 3.

    As there, downloads are redirected to another place, which is what sends the bytes.
    """

    archive: bytes
    ranges: bool = True
    authorization: str = ""  # what it asks for; "" for a public data set

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path == "/storage/archive.zip":
            return part_of(self.archive, request, ranges=self.ranges)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Answer(401)
        if request.path == "/api/v1/datasets/view/owner/name":
            return Answer(200, b'{"currentVersionNumber": 3}')
        if request.path != "/api/v1/datasets/download/owner/name":
            return Answer(404)
        if request.query.get("dataset_version_number") != "3":
            return Answer(404)
        return Answer(302, headers={"Location": "/storage/archive.zip"})


@dataclass
class Hub:
    """The HF hub for one file of one data set: links are signed and end after some requests."""

    data: bytes
    token: str = ""
    requests_per_link: int = 10**9
    links: int = 0
    _used: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path == "/cdn/file":
            with self._lock:
                self._used += 1
                fresh = request.query["signature"] == str(self.links)
                if not fresh or self._used > self.requests_per_link or request.method != "GET":
                    return Answer(403)
            return part_of(self.data, request)
        wanted = f"Bearer {self.token}"
        if self.token and request.headers.get("authorization") != wanted:
            return Answer(401, headers={"X-Error-Message": "Access is restricted."})
        if not re.fullmatch(r"/datasets/owner/name/resolve/(main|c0ffee)/a/b\.zip", request.path):
            return Answer(404, headers={"X-Error-Code": "EntryNotFound"})
        with self._lock:
            self.links, self._used = self.links + 1, 0
        # Another host name for the same server: tokens must not follow.
        place = f"http://localhost:{request.headers['host'].split(':')[1]}/cdn/file"
        return Answer(
            302,
            headers={
                "Location": f"{place}?signature={self.links}",
                "X-Repo-Commit": "c0ffee",
                "X-Linked-Size": str(len(self.data)),
                "X-Linked-ETag": '"sha"',
            },
        )
