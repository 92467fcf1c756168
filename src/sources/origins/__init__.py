"""Where the bytes of a data set are: an address -> its members, listed and read by ranges.

The one door to this package: nobody imports its modules. What an address can be stands in
docs/origins.md.
"""

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from src.sources.local.cache import Cache
from src.sources.origins.addresses import find_place, parse_address, public_url
from src.sources.origins.archives import open_place
from src.sources.origins.kaggle import open_kaggle
from src.sources.origins.range_reader import Rows
from src.sources.origins.stores import Missing
from src.sources.origins.whole_file import with_archives

__all__ = ["Missing", "Origin", "Rows", "open_origin", "public_url", "with_archives"]


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


def open_origin(origin: str, cache: Cache) -> Origin:
    """Return the members of the data set at `origin`; what lists them is read, no archive fetched.

    Raises:
        NotDownloadedError: an archive must be downloaded first, as `with_archives` does.
        InputError: the address is malformed or holds a secret, nothing is there, access is refused,
            the archive is damaged or unsafe, or the server does not send parts of files.
    """
    address = parse_address(origin)
    if address.url.startswith("kaggle://"):
        return open_kaggle(address, cache)
    return open_place(find_place(address), cache, whole=address.whole)
