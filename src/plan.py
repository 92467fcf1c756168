"""What a download would do, as text: how many images, bytes and seconds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pandas as pd

from src.schema import LABELS
from src.sources import Plan

# Bytes a second, where the source has not seen yet how fast its origin is.
ASSUMED_SPEED = 10e6

_HEADER = ("method", "class", "family", "licence", "listed", "images", "kept", "to fetch", "MB")
_TEXTS = 4  # columns that are aligned on the left


def plan_text(
    catalogue: pd.DataFrame, images: pd.DataFrame, plan: Plan, licences: Mapping[str, str]
) -> str:
    """Return the table of what is fetched for `images`, by method and class, and its sum.

    `listed` counts the images of the catalogue, `kept` those that earlier runs have fetched.
    """
    key = ["method", "label", "family"]
    parts = images.assign(kept=plan.kept, bytes=plan.bytes).groupby(key)
    counts = parts.agg(images=("image_id", "size"), kept=("kept", "sum"), bytes=("bytes", "sum"))
    counts.insert(0, "listed", catalogue.groupby(key).size())
    rows = [
        (method, LABELS[label], family, licences[method], *_figures(*figures))
        for (method, label, family), *figures in counts.itertuples()
    ]
    total = ("all", "", "", "", *_figures(*counts.sum()))
    return "\n".join([*_aligned([_HEADER, *rows, total]), "", _summary(images, plan), ""])


def _figures(listed: int, images: int, kept: int, size: int) -> tuple[str, ...]:
    megabytes = f"{size / 1e6:,.1f}" if size or images == kept else "?"
    return f"{listed:,}", f"{images:,}", f"{kept:,}", f"{images - kept:,}", megabytes


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = [c.ljust(w) if i < _TEXTS else c.rjust(w) for i, (c, w) in enumerate(cells)]
        lines.append("  ".join(padded).rstrip())
    return lines


def _summary(images: pd.DataFrame, plan: Plan) -> str:
    classes = " and ".join(f"{(images['label'] == x).sum():,} {n}" for x, n in LABELS.items())
    if plan.kept.all():
        return f"{classes} images; nothing is to be fetched."
    return f"{classes} images; to be fetched: {_transfer(plan)}."


def _transfer(plan: Plan) -> str:
    requests = f"in {plan.requests:,} requests"
    if not plan.transfer:
        return f"an unknown size {requests}, which takes an unknown time"
    seconds = plan.seconds or plan.transfer / ASSUMED_SPEED
    how = "seen so far" if plan.seconds else "assumed, nothing has been measured"
    speed = f"{plan.transfer / seconds / 1e6:.1f} MB/s, {how}"
    duration = timedelta(seconds=max(1, round(seconds)))
    return f"{plan.transfer / 1e6:,.1f} MB {requests}, about {duration} (h:mm:ss) at {speed}"
