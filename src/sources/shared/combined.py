"""Several data sets as one."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from src.core.arrays import IntArray
from src.core.cli import InputError
from src.core.tables import IDENTITY
from src.sources.shared.source import Plan, Source

# What `fetch` of a source needs beside these stays in its own catalogue.
_SHARED = [*IDENTITY, "given_split", "there"]


class Sources:
    """The images of some sources; a method comes from one of them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Read the catalogues of `sources`.

        Raises:
            InputError: a data set is not as expected, or two of them have the same method.
        """
        self._sources = sources
        self._catalogues = [source.catalogue() for source in sources]
        self._check_methods()

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image.

        Columns: those of the index, `there`, `source`, and `row` in its catalogue.
        """
        tables = [
            table.assign(
                given_split=table.get("given_split", ""),
                there=table.get("there", True),
            )[_SHARED].assign(source=number, row=np.arange(len(table)))
            for number, table in enumerate(self._catalogues)
        ]
        return pd.concat(tables, ignore_index=True)

    def provenance(self) -> dict[str, tuple[str, str, str]]:
        """Return origin, version and licence of each method."""
        return {
            method: (found.origin, found.version, licence)
            for found in (source.provenance for source in self._sources)
            for method, licence in found.licences.items()
        }

    def licences(self) -> dict[str, str]:
        """Return the licence of each method."""
        return {method: licence for method, (*_, licence) in self.provenance().items()}

    def plan(self, images: pd.DataFrame) -> Plan:
        """Return what fetching these rows would take, without those that are not there.

        Where some come over a network, `transfer`, `requests` and `seconds` are of those alone.
        """
        kept, size = np.zeros(len(images), dtype=bool), np.zeros(len(images), dtype=np.int64)
        plans = []
        there = np.flatnonzero(images["there"])
        for number, places, rows in self._parts(images.iloc[there]):
            plan = self._sources[number].plan(rows)
            kept[there[places]], size[there[places]] = plan.kept, plan.bytes
            if not plan.kept.all():
                plans.append(plan)
        remote = any(plan.remote for plan in plans)
        plans = [plan for plan in plans if plan.remote == remote]
        # A sum with an unknown term is unknown.
        transfer = [plan.transfer for plan in plans]
        seconds = [plan.seconds for plan in plans]
        return Plan(
            kept,
            size,
            transfer=sum(transfer) if all(transfer) else 0,
            requests=sum(plan.requests for plan in plans),
            seconds=sum(seconds) if all(seconds) else 0,
            remote=remote,
        )

    def prepare(self, images: pd.DataFrame) -> dict[str, str]:
        """Fetch these rows; return why some are missing, by `image_id`."""
        missing: dict[str, str] = {}
        for number, _, rows in self._parts(images):
            missing.update(self._sources[number].prepare(rows))
        return missing

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, encoded image)` for each of these rows, in their order."""
        contents = {
            number: self._sources[number].fetch(rows) for number, _, rows in self._parts(images)
        }
        for number in images["source"]:
            yield next(contents[number])

    def _parts(self, images: pd.DataFrame) -> Iterator[tuple[int, IntArray, pd.DataFrame]]:
        """Yield each source that is needed, the places of its rows, and these as it knows them."""
        for number, catalogue in enumerate(self._catalogues):
            places = np.flatnonzero(images["source"] == number)
            if len(places):
                yield number, places, catalogue.iloc[images["row"].iloc[places]]

    def _check_methods(self) -> None:
        origins: dict[str, str] = {}
        for source, table in zip(self._sources, self._catalogues, strict=True):
            origin = source.provenance.origin
            for method in table["method"].unique():
                if method in origins:
                    raise InputError(
                        f"the method {method!r} is in two sources: {origins[method]} and {origin}; "
                        "rename one, or leave one source out"
                    )
                origins[method] = origin
