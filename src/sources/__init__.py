"""Data sets: where their images are and how they are labelled. One module per data set."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import pandas as pd


@dataclass(frozen=True)
class Provenance:
    """Where images come from, for the manifest."""

    origin: str  # what a reader needs to find them again; never a path of this machine
    version: str
    licences: Mapping[str, str]  # of each method; SPDX identifier, or the owner's words


class Source(Protocol):
    """A data set."""

    @property
    def provenance(self) -> Provenance:
        """Return where the images come from."""

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image that can be fetched.

        Columns: `image_id` (`method/path`, unique), `method`, `family`, `category`, `label`,
        `group`, and whatever `fetch` needs.

        Raises:
            InputError: the data set is not there or not laid out as expected.
        """

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, encoded image)` for each of these rows of the catalogue, in order.

        Whatever costs more than a read from a local disk is kept in a `cache.Cache`, so that a
        larger draw, or a run after one that was killed, fetches only what is new.

        Raises:
            InputError: an image cannot be fetched.
        """


# A source is made from `download.origin`, which is empty for those that know their own.
BuildSource = Callable[[str], Source]
