"""A proxy before a real S3 server that makes one thing wrong, as servers seldom do."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Of one connection only; the proxy's own server adds Date and Server.
NOT_FORWARDED = ("connection", "transfer-encoding", "date", "server")


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: str
    late_seconds: int
    refusal: tuple[int, str] | None

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refusal is not None:
            self._refuse(*self.refusal)
            return
        # `Host` stays as the client signed it.
        upstream = http.client.HTTPConnection(str(urlsplit(self.target).netloc), timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_FORWARDED:
                self.send_header(name, value)
        date = parsedate_to_datetime(answer.getheader("Date", formatdate(usegmt=True)))
        self.send_header("Date", formatdate(date.timestamp() - self.late_seconds, usegmt=True))
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty_proxy(
    target: str, *, late_seconds: int = 0, refusal: tuple[int, str] | None = None
) -> Iterator[str]:
    """Yield the URL of a proxy before `target` whose clock is late, or that refuses everything."""
    handler = type(
        "Handler",
        (_Proxy,),
        {"target": target, "late_seconds": late_seconds, "refusal": refusal},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
