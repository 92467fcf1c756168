"""Several data sets as one: whose images are whose, and what they say together."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources.shared.combined import Sources
from src.sources.shared.source import Plan, Provenance


@dataclass
class Numbered:
    """A source whose images are their own numbers."""

    name: str
    methods: tuple[str, ...]
    transfer: int = 10
    kept: bool = False
    remote: bool = True
    asked: list[list[int]] = field(default_factory=list)

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.name, "1", dict.fromkeys(self.methods, "MIT"))

    def catalogue(self) -> pd.DataFrame:
        images = pd.DataFrame({"method": self.methods}).assign(
            family="real", category="", label=[REAL, FAKE], number=[7, 8]
        )
        image_id = images["method"] + "/x"
        return images.assign(image_id=image_id, group=image_id)

    def plan(self, images: pd.DataFrame) -> Plan:
        kept = np.full(len(images), self.kept)
        number, seconds = images["number"].to_numpy(), float(self.transfer)
        return Plan(kept, number, self.transfer, 1, seconds, self.remote)

    def prepare(self, images: pd.DataFrame) -> dict[str, str]:
        self.asked.append(images["number"].tolist())
        return dict.fromkeys(images.loc[images["number"] == 8, "image_id"], "gone")

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        assert images["number"].dtype == np.int64
        return (
            (i, f"{self.name} {n}".encode())
            for i, n in zip(images["image_id"], images["number"], strict=True)
        )


@pytest.fixture
def sources() -> Sources:
    return Sources([Numbered("first", ("a", "c")), Numbered("second", ("b", "d"))])


def test_images_come_from_their_own_source_in_the_order_of_the_rows(sources: Sources) -> None:
    images = sources.catalogue().sort_values("image_id").iloc[[3, 0, 1, 2]]
    assert list(sources.fetch(images)) == [
        ("d/x", b"second 8"),
        ("a/x", b"first 7"),
        ("b/x", b"second 7"),
        ("c/x", b"first 8"),
    ]


def test_the_catalogue_has_a_given_split_though_the_sources_have_none(sources: Sources) -> None:
    assert list(sources.catalogue()["given_split"]) == [""] * 4


def test_each_source_says_what_is_missing_of_what_is_asked_of_it(sources: Sources) -> None:
    assert sources.prepare(sources.catalogue()) == {"c/x": "gone", "d/x": "gone"}


def test_a_source_that_is_not_needed_is_not_asked() -> None:
    first, second = Numbered("first", ("a", "c")), Numbered("second", ("b", "d"))
    sources = Sources([first, second])
    images = sources.catalogue()
    sources.prepare(images[images["method"] == "d"])
    assert (first.asked, second.asked) == ([], [[8]])


@pytest.mark.parametrize(
    ("transfer", "kept", "expected"),
    [(20, False, (30, 2, 30.0)), (0, False, (0, 2, 0.0)), (0, True, (10, 1, 10.0))],
)
def test_a_sum_is_known_if_all_its_terms_are(
    transfer: int, kept: bool, expected: tuple[int, int, float]
) -> None:
    second = Numbered("second", ("b", "d"), transfer, kept)
    sources = Sources([Numbered("first", ("a", "c")), second])
    plan = sources.plan(sources.catalogue())
    assert (plan.transfer, plan.requests, plan.seconds) == expected
    assert plan.kept.tolist() == [False, False, kept, kept]
    assert plan.bytes.tolist() == [7, 8, 7, 8]


@pytest.mark.parametrize(("first", "expected"), [(True, (10, True)), (False, (20, False))])
def test_what_is_read_from_this_machine_does_not_count_beside_what_is_not(
    first: bool, expected: tuple[int, bool]
) -> None:
    here = Numbered("second", ("b", "d"), remote=False)
    sources = Sources([Numbered("first", ("a", "c"), remote=first), here])
    plan = sources.plan(sources.catalogue())
    assert (plan.transfer, plan.remote) == expected


def test_each_method_has_the_provenance_of_its_source(sources: Sources) -> None:
    assert sources.provenance()["d"] == ("second", "1", "MIT")
    assert sources.licences() == dict.fromkeys("abcd", "MIT")


def test_a_method_in_two_sources_is_refused() -> None:
    with pytest.raises(InputError, match=r"'b' is in two sources: first and second; rename"):
        Sources([Numbered("first", ("a", "b")), Numbered("second", ("b", "c"))])
