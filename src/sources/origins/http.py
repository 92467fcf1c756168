"""Plain requests beside obstore's, which reads ranges: redirects, Kaggle, the Hugging Face hub."""

from collections.abc import Mapping
from functools import cache
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from src.sources.origins.in_flight import IN_FLIGHT

# Waits 1, 2, 4, ... 60 s, or as long as the server asks for; 15 s in all where there is no network.
RETRIES = urllib3.Retry(
    total=8,
    connect=5,
    backoff_factor=0.5,
    backoff_max=60,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    raise_on_status=False,
)
_TIMEOUT = urllib3.Timeout(connect=15, read=60)
_MAX_REDIRECTS = 5


def ask(
    url: str, headers: Mapping[str, str], *, method: str = "GET", follow: bool = False
) -> urllib3.BaseHTTPResponse:
    """Return the answer of a web server; its body is read only with `follow`, behind redirects.

    A token in `headers` stays with its host.

    Raises:
        urllib3.exceptions.HTTPError: there is no complete answer.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return _pool(proxy).request(
        method, url, headers=headers, retries=RETRIES, redirect=follow, preload_content=follow
    )


@cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(maxsize=IN_FLIGHT, timeout=_TIMEOUT)
    return urllib3.ProxyManager(proxy, maxsize=IN_FLIGHT, timeout=_TIMEOUT)


def end_of_redirects(url: str) -> str:
    """Return where `url` leads to at last; `url` where the server does not say.

    A password is for its host, where a redirect does not repeat it: `url` stays.
    """
    if "@" in urlsplit(url).netloc:
        return url
    end = url
    for _ in range(_MAX_REDIRECTS):
        try:
            # Not HEAD: a link that is signed for GET refuses it.
            answer = ask(end, {"Range": "bytes=0-0", "Accept-Encoding": "identity"})
        except urllib3.exceptions.HTTPError:
            return url
        answer.close()
        if not (location := answer.get_redirect_location()):
            return end if answer.status < 300 else url
        end = urljoin(end, location)
    return url
