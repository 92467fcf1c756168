"""The plan as text: what there is to fetch, and what is not known about it."""

import numpy as np
import pandas as pd
import pytest

from src.core.tables import FAKE, REAL
from src.sources.shared.plan import plan_text
from src.sources.shared.source import Plan

IMAGES = pd.DataFrame(
    [
        ("coco/1", "coco", "real", REAL),
        ("coco/2", "coco", "real", REAL),
        ("gan/1", "gan", "gan", FAKE),
    ],
    columns=["image_id", "method", "family", "label"],
).assign(there=True)
LISTED = pd.concat([IMAGES, IMAGES])
LICENCES = {"coco": "CC-BY-4.0", "gan": "MIT"}


def plan(
    kept: list[bool],
    sizes: list[int],
    transfer: int,
    seconds: float = 0.0,
    *,
    remote: bool = True,
) -> Plan:
    size = np.array(sizes, dtype=np.int64)
    requests = int((~np.array(kept)).sum())
    return Plan(np.array(kept), size, transfer, requests, seconds, remote)


def test_the_table_has_a_row_for_each_method_and_class_and_the_sum() -> None:
    text = plan_text(
        LISTED, IMAGES, plan([True, False, False], [0, 2_000_000, 500_000], 4_000_000), LICENCES, 0
    )
    assert [line.split() for line in text.splitlines()[1:4]] == [
        ["coco", "real", "real", "CC-BY-4.0", "4", "2", "1", "1", "2.0"],
        ["gan", "fake", "gan", "MIT", "2", "1", "0", "1", "0.5"],
        ["all", "6", "3", "1", "2", "2.5"],
    ]


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (plan([True] * 3, [0] * 3, 0), "2 real and 1 fake images; nothing is to be fetched."),
        (
            plan([False] * 3, [10**7] * 3, 30_000_000, seconds=6),
            "30.0 MB in 3 requests, about 0:00:06 (h:mm:ss) at 5.0 MB/s, going by the last fetch "
            "from there.",
        ),
        (
            plan([False] * 3, [10**10] * 3, 3 * 10**10),
            "30,000.0 MB in 3 requests, about 0:50:00 (h:mm:ss) at 10.0 MB/s, assumed, nothing has "
            "been measured.",
        ),
        (
            plan([False] * 3, [10**7] * 3, 30_000_000, remote=False),
            "2 real and 1 fake images; 30.0 MB are read from this machine.",
        ),
        (
            plan([True, False, False], [0] * 3, 0),
            "an unknown size in 2 requests, which takes an unknown time.",
        ),
    ],
)
def test_the_summary_says_how_much_and_how_long(planned: Plan, expected: str) -> None:
    assert plan_text(LISTED, IMAGES, planned, LICENCES, 0).splitlines()[-1].endswith(expected)


def test_an_unknown_size_is_no_zero() -> None:
    text = plan_text(LISTED, IMAGES, plan([True, True, False], [0] * 3, 0), LICENCES, 0)
    assert [line.split()[-1] for line in text.splitlines()[1:3]] == ["0.0", "?"]


@pytest.mark.parametrize(
    ("max_missing", "then"),
    [
        (1, "more than download.max_missing = 1: the stage stops before it fetches any."),
        (2, "which download.max_missing = 2 allows: the stage does without them."),
    ],
)
def test_what_is_missing_is_said_and_not_to_be_fetched(max_missing: int, then: str) -> None:
    images = IMAGES.assign(there=[True, False, False])
    text = plan_text(
        LISTED, images, plan([True, False, False], [0] * 3, 0), LICENCES, max_missing
    ).splitlines()
    assert [line.split()[-6:] for line in (text[0].replace("to f", "f"), *text[1:4])] == [
        ["listed", "images", "missing", "kept", "fetch", "MB"],
        ["4", "2", "1", "1", "0", "0.0"],
        ["2", "1", "1", "0", "0", "0.0"],
        ["6", "3", "2", "1", "0", "0.0"],
    ]
    assert text[-2].endswith("nothing is to be fetched.")
    assert text[-1] == f"2 of the 3 images are listed, but not there, {then}"
