"""What stands before every request: its size, who may ask; and what answers tell browsers."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    # Scripts, styles and pictures from here alone, no frames, nowhere to send a form.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class TooLargeError(Exception):
    """The body of a request is longer than allowed."""


class Guard:
    """Wraps an app."""

    def __init__(self, app: ASGIApp, max_bytes: int, hosts: Collection[str] | None) -> None:
        """Let bodies of `max_bytes` through, and requests to `hosts` (None: to any name)."""
        self.app, self.max_bytes, self.hosts = app, max_bytes, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_bytes:
                raise TooLargeError
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refusal(headers)
        if refused:
            await refused(scope, receive, answer)
            return
        try:
            await self.app(scope, limited, answer)
        except TooLargeError:
            await self._too_large()(scope, receive, answer)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        # Another site's page must reach neither this machine by a name of its own, nor the API.
        if self.hosts is not None and _without_port(host) not in self.hosts:
            return _error(421, f"no host {host!r} here: use {', '.join(self.hosts)}")
        origin = headers.get("origin")
        if origin is not None and origin.split("://", 1)[-1] != host:
            return _error(403, f"requests of pages from {origin!r} are not answered")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return _error(400, f"Content-Length {length!r} is no number")
        return self._too_large() if int(length) > self.max_bytes else None

    def _too_large(self) -> JSONResponse:
        return _error(413, f"a request may have {self.max_bytes:,} bytes: send fewer images")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].split("]")[0]
    return host.rsplit(":", 1)[0]


def _error(status: int, reason: str) -> JSONResponse:
    # What is left of the body is not read, so the connection has no next request.
    return JSONResponse({"error": reason}, status, {"Connection": "close"})
