"""Data sets: where their images are and how they are labelled. One module per data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from src.core.arrays import BoolArray, IntArray

# Reason recorded for images that are listed but missing.
ABSENT = "listed, but not there"


@dataclass(frozen=True)
class Provenance:
    """Where images come from, for the manifest."""

    origin: str  # what a reader needs to find them again; never a path of this machine
    version: str
    licences: Mapping[str, str]  # of each method; SPDX identifier, or the owner's words


@dataclass(frozen=True)
class Plan:
    """What fetching some images would take."""

    kept: BoolArray  # of each image: it is in the cache already
    bytes: IntArray  # of each image that is not; 0: unknown
    transfer: int  # bytes for all of them together, with what is read for nothing; 0: unknown
    requests: int
    seconds: float  # at the speed of the last fetch; 0: unknown
    remote: bool = False  # they come over a network


class Source(Protocol):
    """A data set."""

    @property
    def provenance(self) -> Provenance:
        """Return where the images come from."""

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image that can be fetched.

        Columns: `image_id` (`method/path`, unique), `method`, `family`, `category`, `label`,
        `group`, whatever the other methods need, and, in a data set that is separated into train,
        val and test, `given_split`. Where it lists images that are not there, `there` says of each
        whether it is.

        Raises:
            InputError: the data set is not there or not laid out as expected.
        """

    def plan(self, images: pd.DataFrame) -> Plan:
        """Return what fetching these rows, which are there, would take; nothing is fetched."""

    def prepare(self, images: pd.DataFrame) -> Mapping[str, str]:
        """Fetch these rows of the catalogue; return why some are missing, by `image_id`.

        Whatever costs more than a read from a local disk is kept in a `cache.Cache`, so that a
        larger draw, or a run after one that was killed, fetches only what is new.

        Raises:
            InputError: the origin does not answer, or refuses.
        """

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, encoded image)` for each of these rows, which are prepared, in order.

        Raises:
            InputError: an image has gone since.
        """


# A source is made from `download.origin`, which is empty for those that know their own; `folder` is
# made from ClassNames as well.
BuildSource = Callable[..., Source]
ClassNames = Mapping[int, Sequence[str]]  # of each label: the names of its folders, in any case
