import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from src.sources.local.cache import Cache
from src.sources.origins import Missing, Origin, http, open_origin, stores
from src.sources.origins.http import end_of_redirects
from src.sources.origins.in_flight import IN_FLIGHT
from tests.helpers import servers
from tests.helpers.make_artifact import zip_of
from tests.helpers.servers import Answer, Request, Server

FILES = {f"m/{n:04d}.jpg": random.Random(n).randbytes(400 + n % 500) for n in range(600)}
ZIP = zip_of(FILES)
# Every third image: far apart, and more than there are connections.
NAMES = sorted(FILES)[::3]

Handle = Callable[[Request], Answer]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    monkeypatch.setattr(stores, "RETRY", {"max_retries": 4, "backoff": {**backoff, "base": 2}})
    monkeypatch.setattr(http, "RETRIES", http.RETRIES.new(backoff_factor=0))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(lambda request: servers.part_of(ZIP, request)) as running:
        yield running


def read(origin: Origin, names: list[str]) -> dict[str, bytes | Missing]:
    rows = origin.find(pa.array(names, pa.string()))
    found = dict(pair for pairs in origin.read(rows) for pair in pairs)
    return {name: found[row] for name, row in zip(names, rows.tolist(), strict=True)}


def wanted(names: list[str]) -> dict[str, bytes]:
    return {name: FILES[name] for name in names}


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


def test_a_redirect_is_followed_once(server: Server, cache: Cache) -> None:
    server.handle = site = Redirecting()
    origin = open_origin(f"{server.url}/data/x.zip", cache)
    assert origin.url == f"{server.url}/data/x.zip"
    assert read(origin, NAMES) == wanted(NAMES)
    assert site.links == 1


def test_a_link_that_has_expired_is_asked_for_again_once(server: Server, cache: Cache) -> None:
    server.handle = site = Redirecting(requests_per_link=IN_FLIGHT + 20)
    assert read(open_origin(f"{server.url}/data/x.zip", cache), NAMES) == wanted(NAMES)
    assert site.links > 1
    # Many threads were refused together; one of them asked.
    assert site.refused >= site.links - 1
    assert site.links <= 1 + len(server.requests) / IN_FLIGHT


def test_a_redirect_that_nothing_is_known_of_changes_nothing() -> None:
    with Server(lambda _: Answer(500)) as server:
        assert end_of_redirects(f"{server.url}/x.zip") == f"{server.url}/x.zip"
    assert end_of_redirects(f"{server.url}/x.zip") == f"{server.url}/x.zip"
    with Server(lambda _: Answer(302, headers={"Location": "/x.zip"})) as server:
        assert end_of_redirects(f"{server.url}/x.zip") == f"{server.url}/x.zip"  # in a circle


def test_a_password_stays_with_its_host(server: Server) -> None:
    own = server.url.replace("//", "//user:secret@") + "/x.zip"
    assert end_of_redirects(own) == own
    assert not server.requests


def test_a_proxy_that_the_environment_names_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert http.ask("http://example.invalid/x.zip", {}, follow=True).data == ZIP
