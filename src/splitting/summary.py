"""How even a split is, what it leaves out, and whether a group crosses it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.core.tables import HOLDOUT, LABELS
from src.dataset.sampling_index import Images, coded
from src.splitting.assignment import LEFT_OUT, PLACES
from src.splitting.draw import count_by_split


def summary(metadata: pd.DataFrame | Images, split: pd.Categorical) -> dict[str, Any]:
    """Return the metrics: what `split` draws from `metadata`, how evenly, and what it leaves out.

    `imbalance` is 1 - smallest / largest: 0 where all have the same number of images, 1 where one
    has none.
    """
    images = coded(metadata)
    cells = [
        _Cell(place, LABELS[kind.label], kind.method, kind.category, count)
        for place, counts in count_by_split(images.kinds, split.codes).items()
        for kind, count in counts.items()
    ]
    used = [cell for cell in cells if cell.split != LEFT_OUT]
    drawn = [cell for cell in used if cell.split != HOLDOUT]
    total = _total(drawn)
    share = {name: number / total for name, number in _by("split", drawn).items()}
    return {
        "images": _total(used),
        "images_per_class": total // len(LABELS),
        "share": share,
        "leaked_groups": _leaked_groups(images, split),
        "counts": {name: _counts(of) for name, of in _parts("split", used).items()},
        "imbalance": _imbalances(cells, used, drawn),
        "left_out": _left_out(cells, used),
    }


class _Cell(NamedTuple):
    """How many images are alike in all that the metrics count by."""

    split: str
    label: str
    method: str
    category: str
    images: int


def _total(cells: Iterable[_Cell]) -> int:
    return sum(cell.images for cell in cells)


def _parts(attribute: str, cells: Iterable[_Cell]) -> dict[str, list[_Cell]]:
    parts: dict[str, list[_Cell]] = {}
    for cell in cells:
        parts.setdefault(getattr(cell, attribute), []).append(cell)
    return parts


def _by(attribute: str, cells: Iterable[_Cell]) -> dict[str, int]:
    return {name: _total(part) for name, part in _parts(attribute, cells).items()}


def _leaked_groups(images: Images, split: pd.Categorical) -> int:
    used = np.flatnonzero(split != LEFT_OUT)
    # What is held out may share a group with test: neither is trained on.
    place = split.codes[used]
    side = np.where(place == PLACES.index(HOLDOUT), PLACES.index("test"), place)
    sides = np.zeros(len(split), np.uint8)  # a bit for each
    group = used + images.to_representative[used]
    np.bitwise_or.at(sides, group, np.left_shift(1, side).astype(np.uint8))
    return int(np.count_nonzero(np.bitwise_count(sides) > 1))


def _counts(cells: Iterable[_Cell]) -> dict[str, Any]:
    return {
        label: {
            "images": _total(of_label),
            "by_method": _by("method", of_label),
            "by_category": _by("category", of_label),
        }
        for label, of_label in _parts("label", cells).items()
    }


def _imbalances(
    cells: Iterable[_Cell], used: Iterable[_Cell], drawn: Sequence[_Cell]
) -> dict[str, dict[str, float]]:
    """Return how unequal the classes are in each split, and the methods that it could have."""
    categories = {cell.category for cell in drawn}
    held_out = {cell.method for cell in used if cell.split == HOLDOUT}
    in_use = [c for c in cells if c.category in categories and c.method not in held_out]
    methods = {label: _parts("method", of) for label, of in _parts("label", in_use).items()}
    imbalances = {}
    for name, of_split in _parts("split", drawn).items():
        labels = _parts("label", of_split)
        imbalances[name] = {"label": _imbalance([_total(of) for of in labels.values()])}
        for label, of_label in labels.items():
            counts = _by("method", of_label)
            imbalances[name][f"method_of_{label}"] = _imbalance(
                [counts.get(method, 0) for method in methods[label]]
            )
    return imbalances


def _imbalance(counts: Sequence[int]) -> float:
    return 1 - min(counts) / max(counts)


def _left_out(cells: Iterable[_Cell], used: Iterable[_Cell]) -> dict[str, Any]:
    rest = [cell for cell in cells if cell.split == LEFT_OUT]
    used_categories = {cell.category for cell in used}
    by_class = {
        category: dict.fromkeys(LABELS.values(), 0) | _by("label", part)
        for category, part in _parts("category", cells).items()
        if category not in used_categories
    }
    return {
        "images": _total(rest),
        "by_method": _by("method", rest),
        # Their number in each class: what only one class shows would give it away.
        "unmatched_categories": {
            category: counts for category, counts in by_class.items() if 0 in counts.values()
        },
    }
