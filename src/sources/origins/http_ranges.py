"""What obstore leaves open of HTTP: where redirects end, and many ranges with one request.

Source: RFC 9110, sections 14.2 (Range), 14.4 (Content-Range) and 14.6 (multipart/byteranges).
"""

import re
import weakref
from collections.abc import Sequence

import httpx2

# Of one request. Servers count them (Apache: 200), or take a header of 8 kB (nginx, Apache too):
# a hundred numbers of any size fit.
MAX_RANGES = 100
_MAX_HEAD = 1000  # bytes before the content of a part; servers send about 120
# A delimiter, then the lines of a header; one of them says which bytes follow.
_HEAD = re.compile(
    rb"(?:\r\n)*--[^\r\n]+\r\n(?:[^\r\n]+\r\n)*?"
    rb"content-range:[ \t]*bytes[ \t]+(\d+)-(\d+)/[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n",
    re.IGNORECASE,
)
_TIMEOUT = httpx2.Timeout(60, connect=15)
# Ranges count in the bytes of the file itself, not of a compressed copy.
_AS_IT_IS = {"Accept-Encoding": "identity"}

Span = tuple[int, int]  # the first byte, and the one behind the last
Parts = list[memoryview]


class Web:
    """Connections to web servers. May be shared by threads."""

    def __init__(self, connections: int) -> None:
        """Keep up to so many connections open."""
        self._client = httpx2.Client(
            headers=_AS_IT_IS,
            follow_redirects=True,
            timeout=_TIMEOUT,
            limits=httpx2.Limits(max_keepalive_connections=connections),
        )
        weakref.finalize(self, self._client.close)

    def end_of_redirects(self, url: str) -> str:
        """Return where `url` leads to at last; `url` where the server does not say."""
        try:
            # Not HEAD: a link that is signed for GET refuses it.
            with self._client.stream("GET", url, headers={"Range": "bytes=0-0"}) as answer:
                end, asked = answer.url, httpx2.URL(url)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return url
        # A password in the address is for its host, where a redirect does not repeat it.
        needs_password = asked.userinfo and end.host == asked.host
        return str(end) if answer.history and answer.is_success and not needs_password else url

    def read_spans(self, url: str, spans: Sequence[Span]) -> Parts | None:
        """Return these parts of a file, from one answer; None where it is anything else.

        A server may send one range alone, or all of the file, of which nothing is read then.
        """
        ranges = ",".join(f"{start}-{end - 1}" for start, end in spans)
        asked = {"Range": f"bytes={ranges}"}
        limit = sum(end - start for start, end in spans) + (len(spans) + 1) * _MAX_HEAD
        data = bytearray()
        try:
            with self._client.stream("GET", url, headers=asked) as answer:
                kind = answer.headers.get("content-type", "").lower()
                if answer.status_code != 206 or not kind.startswith("multipart/byteranges"):
                    return None
                for piece in answer.iter_raw():
                    data += piece
                    if len(data) > limit:
                        return None
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return None
        return parts_of(bytes(data), spans)


def parts_of(body: bytes, spans: Sequence[Span]) -> Parts | None:
    """Return the parts of a body `multipart/byteranges`; None unless they are `spans`, in order.

    A part is as long as its header says, so that its content is not searched for delimiters.
    """
    parts, at = [], 0
    for start, end in spans:
        head = _HEAD.match(body, at, at + _MAX_HEAD)
        if head is None or (int(head[1]), int(head[2])) != (start, end - 1):
            return None
        at = head.end() + end - start
        parts.append(memoryview(body)[head.end() : at])
    return parts if body.startswith(b"\r\n--", at) else None
