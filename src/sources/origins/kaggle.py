"""Kaggle data sets: the archive of all files, read by ranges.

Source: the HTTP interface that kagglehub 0.2 and the kaggle command line use, `/api/v1/datasets`.
"""

import base64
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from obstore.store import ObjectStore

from src.core.cli import InputError
from src.sources.origins.addresses import Place, public_url
from src.sources.origins.http import ask
from src.sources.origins.stores import Missing, Store, http_store

# Without @ and ?: what an address says of users and tokens must not become part of a name.
_URL = re.compile(r"kaggle://(?P<owner>[^/@?]+)/(?P<name>[^/@?]+)(?:/versions/(?P<version>\d+))?")
_HELP = (
    "create a token on https://www.kaggle.com/settings and set KAGGLE_API_TOKEN, or "
    "KAGGLE_USERNAME and KAGGLE_KEY, or save it as kaggle.json in KAGGLE_CONFIG_DIR, ~/.kaggle or, "
    "on Linux without that folder, ~/.config/kaggle"
)


def find_on_kaggle(url: str) -> Place:
    """Return the archive of the data set `kaggle://OWNER/NAME[/versions/N]`.

    Raises:
        InputError: the URL is malformed, there is no such data set, or access is refused.
    """
    match = _URL.fullmatch(url.rstrip("/"))
    if match is None:
        raise InputError(
            f"download.origin = {public_url(url)!r}: expected kaggle://OWNER/NAME/versions/N"
        )
    api = _Api(match["owner"], match["name"])
    try:
        version = match["version"] or api.current_version()
        pinned = f"kaggle://{match['owner']}/{match['name']}/versions/{version}"
        store = Store(pinned, lambda: api.archive(version), _HELP)
    except Missing as error:
        raise InputError(f"download.origin: {error}") from error
    return Place(store, pinned, "", ".zip", version)


class _Api:
    """The few calls of Kaggle's HTTP interface that reading a data set takes."""

    def __init__(self, owner: str, name: str) -> None:
        self._base = (
            os.environ.get("KAGGLE_API_ENDPOINT", "https://www.kaggle.com") + "/api/v1/datasets"
        )
        self._dataset = f"{quote(owner)}/{quote(name)}"
        self._headers = _authorization()

    def current_version(self) -> str:
        """Return the newest version, for a URL that names none."""
        answer = json.loads(self._get(f"{self._base}/view/{self._dataset}").data)
        return str(answer["currentVersionNumber"])

    def archive(self, version: str) -> ObjectStore:
        """Return a store of the archive of all files: the signed link that Kaggle answers with."""
        url = f"{self._base}/download/{self._dataset}?dataset_version_number={version}"
        answer = self._get(url, follow=False)
        answer.close()
        target = urljoin(url, answer.get_redirect_location() or url)
        own = urlsplit(target).netloc == urlsplit(url).netloc
        return http_store(target, self._headers if own else None)

    def _get(self, url: str, *, follow: bool = True) -> urllib3.BaseHTTPResponse:
        where = url.partition("?")[0]
        try:
            answer = ask(url, self._headers, follow=follow)
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", error)
            raise InputError(
                f"{where}: no complete answer ({type(reason).__name__}); check the network; what "
                "has been fetched is kept: run again to resume"
            ) from error
        if answer.status in (401, 403):
            state = "was refused" if self._headers else "is needed, and none was found"
            raise InputError(f"{where}: a Kaggle token {state}; {_HELP}")
        if answer.status == 404:
            raise Missing(f"{where}: Kaggle has no such data set, version or file")
        if answer.status >= 400:
            raise InputError(f"{where}: Kaggle answers {answer.status}; run again later to resume")
        return answer


def _authorization() -> dict[str, str]:
    """Return the header with the user's own token, from where Kaggle's tools look for it."""
    folder = _config_folder()
    token_file = folder / "access_token"
    token = os.environ.get("KAGGLE_API_TOKEN") or (
        token_file.read_text(encoding="utf-8") if token_file.is_file() else ""
    )
    if token.strip():
        return {"Authorization": f"Bearer {token.strip()}"}
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    file = folder / "kaggle.json"
    if not (user and key) and file.is_file():
        try:
            saved = json.loads(file.read_text(encoding="utf-8"))
            user, key = saved["username"], saved["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: not a Kaggle token (username and key); {_HELP}") from error
    if not (user and key):
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def _config_folder() -> Path:
    """Return the folder of token files; the rule is that of the kaggle command line, 2.2."""
    if named := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(named).expanduser()
    usual = Path("~/.kaggle").expanduser()
    if usual.exists() or sys.platform != "linux":
        return usual
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "kaggle"
