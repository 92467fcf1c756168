"""What a download would do, as text: how many images, bytes and seconds."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import timedelta

import pandas as pd

from src.core.tables import LABELS
from src.sources.shared.source import ABSENT, Plan

# Bytes a second, where nothing has been fetched yet from where the images are.
ASSUMED_SPEED = 10e6

_TEXTS = ("method", "class", "family", "licence")  # columns on the left
_FIGURES = ("listed", "images", "missing", "kept", "to fetch")


def plan_text(
    catalogue: pd.DataFrame,
    images: pd.DataFrame,
    plan: Plan,
    licences: Mapping[str, str],
    max_missing: int,
) -> str:
    """Return the table of what is fetched for `images`, by method and class, and its sum.

    `listed` counts the images of the catalogue, `kept` those that earlier runs have fetched,
    `missing`, where there are any, those that are listed, but not there.
    """
    key = ["method", "label", "family"]
    drawn = images.assign(missing=~images["there"], kept=plan.kept, bytes=plan.bytes)
    counts = drawn.groupby(key)[["missing", "kept", "bytes"]].sum()
    counts["images"] = drawn.groupby(key).size()
    counts["listed"] = catalogue.groupby(key).size()
    counts["to fetch"] = counts["images"] - counts["missing"] - counts["kept"]
    total = counts.sum()
    figures = [name for name in _FIGURES if name != "missing" or total["missing"]]
    rows = [
        (method, LABELS[label], family, licences[method], *_cells(row, figures))
        for (method, label, family), row in zip(
            counts.index, counts.to_dict("records"), strict=True
        )
    ]
    rows.append(("all", "", "", "", *_cells(total.to_dict(), figures)))
    table = _aligned([(*_TEXTS, *figures, "MB"), *rows])
    return "\n".join([*table, "", _summary(images, plan), *_absence(images, max_missing), ""])


def _cells(row: Mapping[Hashable, int], figures: Sequence[str]) -> Iterator[str]:
    yield from (f"{row[name]:,}" for name in figures)
    yield f"{row['bytes'] / 1e6:,.1f}" if row["bytes"] or not row["to fetch"] else "?"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [c.ljust(w) if i < len(_TEXTS) else c.rjust(w) for i, (c, w) in enumerate(cells)]
        lines.append("  ".join(padded).rstrip())
    return lines


def _summary(images: pd.DataFrame, plan: Plan) -> str:
    classes = " and ".join(f"{(images['label'] == x).sum():,} {n}" for x, n in LABELS.items())
    if (plan.kept | ~images["there"]).all():
        return f"{classes} images; nothing is to be fetched."
    if not plan.remote:
        return f"{classes} images; {plan.transfer / 1e6:,.1f} MB are read from this machine."
    return f"{classes} images; to be fetched: {_transfer(plan)}."


def _absence(images: pd.DataFrame, max_missing: int) -> list[str]:
    missing = int((~images["there"]).sum())
    if not missing:
        return []
    then = (
        f"more than download.max_missing = {max_missing}: the stage stops before it fetches any"
        if missing > max_missing
        else f"which download.max_missing = {max_missing} allows: the stage does without them"
    )
    return [f"{missing:,} of the {len(images):,} images are {ABSENT}, {then}."]


def _transfer(plan: Plan) -> str:
    requests = f"in {plan.requests:,} requests"
    if not plan.transfer:
        return f"an unknown size {requests}, which takes an unknown time"
    seconds = plan.seconds or plan.transfer / ASSUMED_SPEED
    how = (
        "going by the last fetch from there"
        if plan.seconds
        else "assumed, nothing has been measured"
    )
    speed = f"{plan.transfer / seconds / 1e6:.1f} MB/s, {how}"
    duration = timedelta(seconds=max(1, round(seconds)))
    return f"{plan.transfer / 1e6:,.1f} MB {requests}, about {duration} (h:mm:ss) at {speed}"
