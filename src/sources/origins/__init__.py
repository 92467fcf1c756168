"""Where the bytes of a data set are: an address -> its members, listed and read by ranges.

The one door to this package: nobody imports its modules. What an address can be stands in
docs/origins.md.
"""

from src.sources.local.cache import Cache
from src.sources.origins.addresses import find_place, parse_address, public_url
from src.sources.origins.archives import open_place
from src.sources.origins.kaggle import find_on_kaggle
from src.sources.origins.range_reader import Origin, Rows
from src.sources.origins.stores import Missing
from src.sources.origins.whole_file import with_archives

__all__ = ["Missing", "Origin", "Rows", "open_origin", "public_url", "with_archives"]


def open_origin(origin: str, cache: Cache) -> Origin:
    """Return the members of the data set at `origin`; what lists them is read, no archive fetched.

    Raises:
        NotDownloadedError: an archive must be downloaded first, as `with_archives` does.
        InputError: the address is malformed or holds a secret, nothing is there, access is refused,
            the archive is damaged or unsafe, or the server does not send parts of files.
    """
    address = parse_address(origin)
    on_kaggle = address.url.startswith("kaggle://")
    place = find_on_kaggle(address.url) if on_kaggle else find_place(address)
    return open_place(place, cache, whole=address.whole)
