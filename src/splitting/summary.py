"""How even a split is, what it leaves out, and whether a group crosses it."""

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
        "imbalance": _imbalances(counts, drawn, used.loc[used["split"] == HOLDOUT, "method"]),
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
    counts: pd.DataFrame, drawn: pd.DataFrame, held_out: pd.Series
) -> dict[str, dict[str, float]]:
    """Return how unequal the classes are in each split, and the methods that it could have."""
    in_use = counts["category"].isin(drawn["category"]) & ~counts["method"].isin(held_out)
    by_method = counts[in_use].pivot_table("images", ["label", "method"], "split", "sum", 0)
    return {
        str(name): {
            "label": _imbalance(of_split.groupby("label").sum()),
            **{f"method_of_{label}": _imbalance(part) for label, part in of_split.groupby("label")},
        }
        for name, of_split in by_method[drawn["split"].unique()].items()
    }


def _imbalance(counts: pd.Series) -> float:
    return 1 - float(counts.min() / counts.max())


def _left_out(counts: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    rest = counts[counts["split"] == LEFT_OUT]
    unused = counts[~counts["category"].isin(used["category"])]
    by_class = unused.pivot_table("images", "category", "label", "sum", 0)
    by_class = by_class.reindex(columns=list(LABELS.values()), fill_value=0)
    return {
        "images": int(rest["images"].sum()),
        "by_method": _by("method", rest),
        # Their number in each class: what only one class shows would give it away.
        "unmatched_categories": by_class[(by_class == 0).any(axis=1)].to_dict("index"),
    }
