"""Where the bytes of a data set are: a URL -> its members, listed and read by ranges.

| origin | what |
|---|---|
| `folder`, `x.zip`, `x.tar` | on this machine |
| `s3://bucket/prefix`, `.../x.zip` | any endpoint; the credentials of the AWS tools, or none |
| `https://host/x.zip`, `.tar` | a server that sends parts of files |
| `hf://datasets/owner/name@revision/x.zip` | the Hugging Face hub |
| `kaggle://owner/name/versions/1` | Kaggle |

Archives in a folder or below a prefix count as unpacked where they lie. `#whole` behind a URL has
archives downloaded before they are listed. A tar archive that is not on this machine is read by
ranges where an index of `wds2idx` (`x.tar.idx`) lies beside it, else downloaded.
"""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from src.sources.origins.archives import open_place
from src.sources.origins.cache import Cache
from src.sources.origins.kaggle import open_kaggle
from src.sources.origins.range_reader import Rows
from src.sources.origins.stores import Missing
from src.sources.origins.urls import find_place
from src.sources.origins.whole_file import with_archives

__all__ = ["Missing", "Origin", "Rows", "open_origin", "with_archives"]

_WHOLE = "#whole"


class Origin(Protocol):
    """Members that can be read; a row is the number of one, and stays the same."""

    url: str  # for the manifest: pinned where it can be, without secrets, no path of this machine
    version: str

    def names(self) -> pa.ChunkedArray | None:
        """Return the name of every member, by row; None: names must be known."""

    def find(self, names: pa.Array) -> Rows:
        """Return the row of each of these members, -1 for those that are not there."""

    def archives(self, rows: Rows) -> list[str]:
        """Return which archive below the URL holds each of these members, "" for none."""

    def sizes(self, rows: Rows) -> Rows:
        """Return the bytes of content of each of these members, 0 for unknown."""

    def keys(self, rows: Rows) -> list[str]:
        """Return under which key a cache keeps each of these members."""

    def is_local(self) -> bool:
        """Return whether members are read from this machine, so that a cache gains nothing."""

    def has_read(self) -> tuple[int, int]:
        """Return how many bytes, with how many requests as `cost` counts them; 0 for unknown."""

    def cost(self, rows: Rows) -> tuple[int, int]:
        """Return how many bytes (0: unknown), and how many requests, reading them takes."""

    def unsure(self, rows: Rows) -> Rows:
        """Return those of these members whose reading alone shows that they are whole."""

    def read(self, rows: Rows) -> Iterator[list[tuple[int, bytes | Missing]]]:
        """Yield (row, content or why there is none) of these members, a request's at a time."""

    def contents(self, rows: Rows) -> Iterator[bytes]:
        """Yield the content of each of these members, in their order."""


def open_origin(url: str, cache: Cache) -> Origin:
    """Return the members of the data set at `url`; what lists them is read, no archive downloaded.

    Raises:
        NotDownloadedError: an archive must be downloaded first, as `with_archives` does.
        InputError: the URL is malformed, nothing is there, access is refused, the archive is
            damaged or unsafe, or the server does not send parts of files.
    """
    address, whole = url.removesuffix(_WHOLE), url.endswith(_WHOLE)
    if address.startswith("kaggle://"):
        return open_kaggle(address, cache, whole=whole)
    return open_place(find_place(address), cache, whole=whole)
