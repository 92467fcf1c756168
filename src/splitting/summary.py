"""How even a split is, what it leaves out, and whether a group crosses it."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from src.core.arrays import IntArray
from src.core.tables import HOLDOUT, LABELS
from src.dataset.sampling import Images
from src.splitting.assignment import ASSIGNED, LEFT_OUT
from src.splitting.draw import count_images


def summary(images: Images, split: IntArray) -> dict[str, Any]:
    """Return the metrics: what `split` draws of `images`, how evenly, and what it leaves out.

    `imbalance` is 1 - smallest / largest: 0 where all have the same number of images, 1 where one
    has none.
    """
    counts = count_images(images, split)
    counts = counts[counts["images"] > 0].replace({"label": LABELS})
    used = counts[counts["split"] != LEFT_OUT]
    drawn = used[used["split"] != HOLDOUT]
    total = int(drawn["images"].sum())
    return {
        "images": int(used["images"].sum()),
        "images_per_class": total // len(LABELS),
        "share": {name: number / total for name, number in _by("split", drawn).items()},
        "leaked_groups": _leaked_groups(images.representative, split),
        "counts": {
            name: {label: _parts(of_label) for label, of_label in of_split.groupby("label")}
            for name, of_split in used.groupby("split")
        },
        "imbalance": _imbalances(counts, used, drawn),
        "left_out": _left_out(counts, used),
    }


def _by(column: str, counts: pd.DataFrame) -> dict[str, int]:
    sums = counts.groupby(column)["images"].sum()
    return {str(name): int(number) for name, number in sums.items()}


def _parts(counts: pd.DataFrame) -> dict[str, Any]:
    return {
        "images": int(counts["images"].sum()),
        "by_method": _by("method", counts),
        "by_category": _by("category", counts),
    }


def _leaked_groups(group: IntArray, split: IntArray) -> int:
    """Return how many groups are on several sides; test and what is held out are one side."""
    used = np.flatnonzero(split)
    side = np.where(split == ASSIGNED.index(HOLDOUT), ASSIGNED.index("test"), split)[used]
    sides = pd.DataFrame({"group": group[used], "side": side}).drop_duplicates()
    return int((sides["group"].value_counts() > 1).sum())


def _imbalances(
    counts: pd.DataFrame, used: pd.DataFrame, drawn: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Return how unequal the classes are in each split, and the methods that it could have."""
    held_out = used.loc[used["split"] == HOLDOUT, "method"]
    in_use = counts["category"].isin(drawn["category"]) & ~counts["method"].isin(held_out)
    result: dict[str, dict[str, float]] = {}
    for name, of_split in drawn.groupby("split"):
        of_name = result[str(name)] = {"label": _imbalance(_by("label", of_split).values())}
        for label, of_label in of_split.groupby("label"):
            none = dict.fromkeys(counts.loc[in_use & (counts["label"] == label), "method"], 0)
            by_method = none | _by("method", of_label)
            of_name[f"method_of_{label}"] = _imbalance(by_method.values())
    return result


def _imbalance(counts: Collection[int]) -> float:
    return 1 - min(counts) / max(counts)


def _left_out(counts: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    rest = counts[counts["split"] == LEFT_OUT]
    unused = counts[~counts["category"].isin(used["category"])]
    by_class = {
        category: dict.fromkeys(LABELS.values(), 0) | _by("label", part)
        for category, part in unused.groupby("category")
    }
    return {
        "images": int(rest["images"].sum()),
        "by_method": _by("method", rest),
        # Their number in each class: what only one class shows would give it away.
        "unmatched_categories": {
            name: numbers for name, numbers in by_class.items() if 0 in numbers.values()
        },
    }
