import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.sources.origins import Missing, Origin, open_origin, urls
from src.sources.origins.cache import Cache
from src.sources.origins.http_ranges import MAX_RANGES, Web, parts_of
from src.sources.origins.in_flight import IN_FLIGHT
from tests.helpers import servers
from tests.helpers.make_artifact import tar_of, zip_of
from tests.helpers.servers import Answer, Request, Server

FILES = {f"m/{n:04d}.jpg": random.Random(n).randbytes(400 + n % 500) for n in range(600)}
ZIP = zip_of(FILES)
# Every third image: far apart, and more than there are connections.
NAMES = sorted(FILES)[::3]

Handle = Callable[[Request], Answer]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    monkeypatch.setattr(urls, "RETRY", {"max_retries": 4, "backoff": {**backoff, "base": 2}})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda request: servers.parts_of(ZIP, request)) as running:
        yield running


def read(origin: Origin, names: list[str]) -> dict[str, bytes | Missing]:
    rows = origin.find(pa.array(names, pa.string()))
    found = dict(pair for pairs in origin.read(rows) for pair in pairs)
    return {name: found[row] for name, row in zip(names, rows.tolist(), strict=True)}


def wanted(names: list[str]) -> dict[str, bytes]:
    return {name: FILES[name] for name in names}


def asks_for_many(request: Request) -> bool:
    return "," in request.headers.get("range", "")


# --- many ranges with one request


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_many_ranges_come_with_one_request(server: Server, cache: Cache, kind: str) -> None:
    files = {"x.zip": ZIP, **dict(zip(("x.tar", "x.tar.idx"), tar_of(FILES), strict=True))}
    server.handle = lambda request: servers.parts_of(files[request.path.lstrip("/")], request)
    origin = open_origin(f"{server.url}/x.{kind}", cache)
    opening, sent = len(server.requests), server.bytes_sent
    assert read(origin, NAMES) == wanted(NAMES)
    requests = server.requests[opening:]
    assert len(requests) <= 2 * IN_FLIGHT < origin.cost(origin.find(pa.array(NAMES)))[1]
    assert len([request for request in requests if not asks_for_many(request)]) <= 1  # left over
    own = sum(len(FILES[name]) for name in NAMES)
    heads = 130 * len(NAMES)  # what stands between the parts
    assert server.bytes_sent - sent - heads <= 1.4 * own  # images of half a kilobyte, zip headers


def test_a_request_has_no_more_ranges_than_servers_take(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.sources.origins.range_reader.IN_FLIGHT", 1)
    origin = open_origin(f"{server.url}/x.zip", cache)
    monkeypatch.setattr("src.sources.origins.range_reader.MAX_RUN", 20_000)
    assert read(origin, NAMES) == wanted(NAMES)
    asked = [request.headers["range"] for request in server.requests if asks_for_many(request)]
    assert 10 < max(ranges.count(",") for ranges in asked) < MAX_RANGES
    assert len("bytes=" + ",".join([f"{2**63}-{2**63}"] * MAX_RANGES)) < 8000


def test_few_ranges_are_not_worth_a_try(server: Server, cache: Cache) -> None:
    origin = open_origin(f"{server.url}/x.zip", cache)
    assert read(origin, NAMES[:IN_FLIGHT]) == wanted(NAMES[:IN_FLIGHT])
    assert not any(map(asks_for_many, server.requests))


def first_range(request: Request) -> Answer:
    one = request.headers["range"].partition(",")[0]
    return servers.part_of(ZIP, replace(request, headers={"range": one}))


def unlabelled(request: Request) -> Answer:
    answer = servers.parts_of(ZIP, request)
    answer.headers["Content-Type"] = "application/zip"
    return answer


@pytest.mark.parametrize(
    "refusal",
    [first_range, unlabelled, *(lambda _, s=s: Answer(s) for s in (400, 403, 416, 500, 503))],
    ids=["first", "unlabelled", "400", "403", "416", "500", "503"],
)
def test_a_server_that_sends_one_range_is_asked_once(
    server: Server, cache: Cache, refusal: Handle
) -> None:
    server.handle = lambda r: refusal(r) if asks_for_many(r) else servers.part_of(ZIP, r)
    origin = open_origin(f"{server.url}/x.zip", cache)
    assert read(origin, NAMES) == wanted(NAMES)
    assert read(origin, NAMES[::-1]) == wanted(NAMES)
    assert sum(map(asks_for_many, server.requests)) == 1


def test_a_whole_file_instead_of_ranges_is_not_downloaded(cache: Cache) -> None:
    files = {f"{n:03d}.jpg": random.Random(n).randbytes(200_000) for n in range(200)}
    data, names = zip_of(files), sorted(files)[::2]

    def whole_file(request: Request) -> Answer:
        return servers.part_of(data, request, ranges=not asks_for_many(request))

    with Server(whole_file) as server:
        origin = open_origin(f"{server.url}/x.zip", cache)
        sent = server.bytes_sent
        assert read(origin, names) == {name: files[name] for name in names}
        assert sum(map(asks_for_many, server.requests)) == 1
        # What the system's buffers take of it.
        assert server.bytes_sent - sent < 1.3 * sum(len(files[n]) for n in names) + len(data) / 4


def swapped(body: bytes) -> bytes:
    first, second, *rest = body.split(b"\r\n--0001")[1:]
    return b"".join(b"\r\n--0001" + part for part in (second, first, *rest))


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "another order": swapped,
    "too few": lambda body: body[: body.rindex(b"\r\n--0001\r\n")] + b"\r\n--0001--\r\n",
    "no end": lambda body: body[:-20],
    "too much": lambda body: body + bytes(10**6),
    "another place": lambda body: body.replace(b"Content-Range: bytes ", b"Content-Range: bytes 1"),
    "no headers": lambda body: body.replace(b"Content-Range", b"X"),
    "damaged": lambda body: body.replace(FILES[NAMES[100]][:20], bytes(20)),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("good", [0, 4], ids=["at once", "later"])
def test_what_is_wrong_with_many_ranges_is_read_one_by_one(
    server: Server, cache: Cache, wrong: str, good: int
) -> None:
    many: list[Request] = []

    def handle(request: Request) -> Answer:
        answer = servers.parts_of(ZIP, request)
        if asks_for_many(request):
            many.append(request)
            if len(many) > good:
                answer.body = WRONG[wrong](answer.body)
        return answer

    server.handle = handle
    assert read(open_origin(f"{server.url}/x.zip", cache), NAMES) == wanted(NAMES)


@pytest.mark.parametrize("tenths", range(10))
def test_many_ranges_cut_anywhere(server: Server, cache: Cache, tenths: int) -> None:
    numbers = iter(range(10**6))

    def cut(request: Request) -> Answer:
        answer = servers.parts_of(ZIP, request)
        if next(numbers) % 2 and len(answer.body) > 1:
            answer.cut = len(answer.body) * tenths // 10
        return answer

    server.handle = cut
    assert read(open_origin(f"{server.url}/x.zip", cache), NAMES) == wanted(NAMES)


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=2, max_size=8)


@given(st.binary(min_size=360, max_size=400), SPANS, st.integers(0, 10**4))
def test_parts_are_what_was_asked_for_or_nothing(
    data: bytes, places: list[tuple[int, int]], cut: int
) -> None:
    data = data[:100] + b"\r\n--0001\r\nContent-Range: bytes 0-9/400\r\n\r\n" + data[100:]
    spans = [(begin, begin + length) for begin, length in places]
    ranges = ",".join(f"{begin}-{end - 1}" for begin, end in spans)
    request = Request("GET", "/", {}, {"range": f"bytes={ranges}"})
    body = servers.parts_of(data, request).body
    found = parts_of(body, spans)
    assert found is not None
    assert [bytes(part) for part in found] == [data[begin:end] for begin, end in spans]
    assert parts_of(body.removeprefix(b"\r\n"), spans) == found  # as Go's library begins
    assert parts_of(body, [(begin + 1, end) for begin, end in spans]) is None
    assert parts_of(body, [(begin, end + 1) for begin, end in spans]) is None
    assert parts_of(body[: min(cut, len(body) - 9)], spans) is None


# --- redirects


class Redirecting:
    """A site that leads to signed links on another host; a link ends after some requests."""

    def __init__(self, requests_per_link: int = 10**9, answer: Handle | None = None) -> None:
        self.links = self.refused = 0
        self._requests_per_link = requests_per_link
        self._answer = answer or (lambda request: servers.part_of(ZIP, request))
        self._used = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            if request.path == "/cdn/a (1)":
                self._used += 1
                if request.query["s"] != f"{self.links}/=" or self._used > self._requests_per_link:
                    self.refused += 1
                    return Answer(403)
                return self._answer(request)
            if request.path != "/data/x.zip":
                return Answer(404)
            self.links, self._used = self.links + 1, 0
        port = request.headers["host"].split(":")[1]
        place = f"http://localhost:{port}/cdn/a%20(1)?s={self.links}%2F%3D"
        return Answer(302, headers={"Location": place})


@pytest.mark.parametrize("many", [False, True])
def test_a_redirect_is_followed_once(server: Server, cache: Cache, many: bool) -> None:
    answer = servers.parts_of if many else servers.part_of
    server.handle = site = Redirecting(answer=lambda request: answer(ZIP, request))
    origin = open_origin(f"{server.url}/data/x.zip", cache)
    assert origin.url == f"{server.url}/data/x.zip"
    assert read(origin, NAMES) == wanted(NAMES)
    assert site.links == 1
    assert any(asks_for_many(request) for request in server.requests)


def test_a_link_that_has_expired_is_asked_for_again_once(server: Server, cache: Cache) -> None:
    server.handle = site = Redirecting(requests_per_link=60)
    assert read(open_origin(f"{server.url}/data/x.zip", cache), NAMES) == wanted(NAMES)
    assert site.links > 1
    # Many threads were refused together; one of them asked.
    assert site.refused >= site.links - 1
    assert site.links <= 1 + len(server.requests) / 50


def test_a_redirect_that_nothing_is_known_of_changes_nothing() -> None:
    with Server(lambda _: Answer(500)) as server:
        assert Web(1).end_of_redirects(f"{server.url}/x.zip") == f"{server.url}/x.zip"
    assert Web(1).end_of_redirects(f"{server.url}/x.zip") == f"{server.url}/x.zip"


def test_a_password_stays_with_its_host(server: Server) -> None:
    def site(request: Request) -> Answer:
        if request.path == "/x.zip" and "authorization" in request.headers:
            return Answer(302, headers={"Location": f"{server.url}/y.zip"})
        return Answer(302, headers={"Location": f"http://localhost:{port}/cdn"})

    port = server.url.rpartition(":")[2]
    own = server.url.replace("//", "//user:secret@") + "/x.zip"
    server.handle = lambda r: servers.part_of(ZIP, r) if r.path in ("/y.zip", "/cdn") else site(r)
    assert Web(1).end_of_redirects(own) == own
    server.handle = lambda r: (
        servers.part_of(ZIP, r)
        if r.path == "/cdn"
        else Answer(302, headers={"Location": f"http://localhost:{port}/cdn"})
    )
    assert Web(1).end_of_redirects(own) == f"http://localhost:{port}/cdn"
    assert "authorization" not in server.requests[-1].headers
