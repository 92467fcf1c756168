"""data/metadata.csv -> data/splits.csv: train, validation and test, balanced and without leaks.

First every group of images is given to one split, by rank within its kind; then each split draws
as many real as fake images, equally from every method, with the same categories in both classes.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.assignment import AssignmentParams, assign_splits
from src.balance import apportion, fill, webster_sequence
from src.command import InputError, run
from src.files import write_json
from src.params import STRICT, load_params
from src.ranks import UInt64Array, order_by_part, ranks
from src.schema import (
    FAKE,
    HOLDOUT,
    LABELS,
    METADATA,
    REAL,
    SPLIT_TABLE,
    SPLITS,
    read_table,
    write_table,
)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_READ = [column for column in SPLIT_TABLE if column != "split"]
# Images that are alike to the draw; `mix` is the category, where categories are matched.
_CELL = ["split", "label", "method", "mix"]


@dataclass(frozen=True, config=STRICT)
class SplitParams(AssignmentParams):
    """Section `split` of params.yaml."""

    images_per_class: Annotated[int, Field(gt=0)] | None
    match_categories: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_csv", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    metadata = read_table(args.metadata_csv, METADATA, [*_READ, "given_split", "key"])
    splits = balanced_split(metadata, params)
    write_table(splits, args.splits_csv, SPLIT_TABLE)
    write_json(summary(metadata, splits), args.metrics_json)


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return the drawn rows of `metadata` with their `split`, sorted by `image_id`.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    images = metadata.assign(split=assign_splits(metadata, params))
    held_out = images[images["split"] == HOLDOUT]
    images = images[images["split"].isin(SPLITS)]
    # Without matching, all images are of one category.
    images["mix"] = images["category"] if params.match_categories else ""
    images = images[images["mix"].isin(_common_categories(images))]
    cells = images.groupby(_CELL)
    supply = cells.size()
    quotas = _quotas(supply, params)
    number = cells.ngroup().to_numpy()
    rank = ranks(images["key"].to_numpy(), params.seed)
    drawn = images[_first_of_each(number, rank, quotas.to_numpy())]
    table = pd.concat([drawn, held_out])[list(SPLIT_TABLE)]
    return table.sort_values("image_id", ignore_index=True)


def _first_of_each(
    part: NDArray[np.integer], rank: UInt64Array, quota: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Return whether an element has one of the `quota[part]` smallest ranks of its part."""
    order = order_by_part(part, rank)
    start = np.searchsorted(part[order], np.arange(len(quota)))
    position = np.arange(len(part)) - start[part[order]]
    chosen = np.zeros(len(part), dtype=bool)
    chosen[order] = position < quota[part[order]]
    return chosen


def _quotas(supply: pd.Series, params: SplitParams) -> pd.Series:
    """Return how many images to draw of each cell of `supply`."""
    # As many of a category as the class that has fewer of it, split by split.
    by_class = supply.groupby(["split", "mix", "label"]).sum().unstack("label", fill_value=0)
    limits = by_class.min(axis=1)
    sizes = _split_sizes(supply, limits, params)
    quotas = {}
    for split, size in sizes.items():
        limit = limits[split]
        categories = limit.index[webster_sequence(limit.to_numpy(), size)]
        for label in LABELS:
            for cell, count in fill(categories, supply[split, label].to_dict()).items():
                quotas[split, label, *cell] = count
    return pd.Series(quotas).reindex(supply.index, fill_value=0)


def _split_sizes(supply: pd.Series, limits: pd.Series, params: SplitParams) -> dict[str, int]:
    """Return the images of each class in each split."""
    room = limits.groupby("split").sum().reindex(SPLITS, fill_value=0).to_numpy()
    weights = (
        1 - params.val_fraction - params.test_fraction,
        params.val_fraction,
        params.test_fraction,
    )
    sequence = webster_sequence(weights, room.sum() + 1)
    # The first image that a split has no room for ends the largest draw.
    most = min(_nth(sequence == number, room[number]) for number in range(len(SPLITS)))
    wanted = params.images_per_class or most
    sizes = dict(zip(SPLITS, apportion(weights, wanted).tolist(), strict=True))
    for split, has in zip(SPLITS, room, strict=True):
        if not 0 < sizes[split] <= has:
            raise InputError(_too_few(supply, split, int(has), max(sizes[split], 1), most))
    return sizes


def _nth(mask: NDArray[np.bool_], n: int) -> int:
    """Return where the n-th True stands, counted from 0; the length if there are not so many."""
    places = np.flatnonzero(mask)
    return int(places[n]) if n < len(places) else len(mask)


def _too_few(supply: pd.Series, split: str, has: int, needs: int, most: int) -> str:
    found = "; ".join(
        f"{name} " + (", ".join(f"{m} {n}" for m, n in _methods(supply, split, label)) or "none")
        for label, name in LABELS.items()
    )
    return (
        f"split.images_per_class: {split} needs {needs} images of each class and has {has} in "
        f"categories and classes that match (all it has: {found}); ask for at most {most}, "
        "download more, or set split.match_categories: false"
    )


def _methods(supply: pd.Series, split: str, label: int) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    cells: dict[Any, int] = supply.to_dict()
    for (of_split, of_label, method, _), count in cells.items():
        if (of_split, of_label) == (split, label):
            counts[method] += count
    return sorted(counts.items())


def _common_categories(images: pd.DataFrame) -> set[str]:
    found = {label: set(images.loc[images["label"] == label, "mix"].unique()) for label in LABELS}
    for label, name in LABELS.items():
        if not found[label]:
            raise InputError(f"there is no {name} image; both classes are needed")
    common = found[REAL] & found[FAKE]
    if not common:
        raise InputError(
            f"no category occurs in both classes: real has {sorted(found[REAL])}, fake has "
            f"{sorted(found[FAKE])}; set split.match_categories: false to accept that what an "
            "image shows gives its class away"
        )
    return common


def summary(metadata: pd.DataFrame, splits: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics: what was drawn, how evenly, and what was left out.

    `imbalance` is 1 - smallest / largest: 0 where all have the same number of images, 1 where one
    has none.
    """
    named = splits.assign(label=splits["label"].map(LABELS))
    is_held = splits["split"] == HOLDOUT
    drawn, held_out = splits[~is_held], splits.loc[is_held, "method"]
    in_use = metadata[
        metadata["category"].isin(drawn["category"]) & ~metadata["method"].isin(held_out)
    ]
    methods = {
        name: in_use.loc[in_use["label"] == label, "method"].unique().tolist()
        for label, name in LABELS.items()
    }
    return {
        "images": len(splits),
        "images_per_class": len(drawn) // len(LABELS),
        "share": drawn["split"].value_counts(normalize=True).to_dict(),
        "leaked_groups": _leaked_groups(splits),
        "counts": {str(split): _counts(rows) for split, rows in named.groupby("split")},
        "imbalance": {
            str(split): _imbalances(rows, methods)
            for split, rows in named[~is_held].groupby("split")
        },
        "left_out": _left_out(metadata, splits),
    }


def _leaked_groups(splits: pd.DataFrame) -> int:
    # What is held out may share a group with test: neither is trained on.
    side = splits["split"].replace(HOLDOUT, "test")
    return int((side.groupby(splits["group"]).nunique() > 1).sum())


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        str(label): {
            "images": len(of_label),
            "by_method": of_label["method"].value_counts().to_dict(),
            "by_category": of_label["category"].value_counts().to_dict(),
        }
        for label, of_label in rows.groupby("label")
    }


def _imbalances(rows: pd.DataFrame, methods: Mapping[str, list[str]]) -> dict[str, float]:
    imbalances = {"label": _imbalance(rows["label"].value_counts())}
    for label, names in methods.items():
        counts = rows.loc[rows["label"] == label, "method"].value_counts()
        imbalances[f"method_of_{label}"] = _imbalance(counts.reindex(names, fill_value=0))
    return imbalances


def _imbalance(counts: pd.Series) -> float:
    return float(1 - counts.min() / counts.max())


def _left_out(metadata: pd.DataFrame, splits: pd.DataFrame) -> dict[str, Any]:
    rest = metadata[~metadata["image_id"].isin(splits["image_id"])]
    by_class = pd.crosstab(metadata["category"], metadata["label"].map(LABELS))
    one_class = by_class[(by_class == 0).any(axis=1)]
    unmatched = one_class[~one_class.index.isin(splits["category"])]
    return {
        "images": len(rest),
        "by_method": rest["method"].value_counts().to_dict(),
        # Their number in each class: what only one class shows would give it away.
        "unmatched_categories": unmatched.to_dict("index"),
    }


if __name__ == "__main__":
    run(main)
