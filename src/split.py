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

from src.balance import apportion, fill, webster_sequence
from src.command import InputError, run
from src.files import write_json
from src.params import STRICT, load_params
from src.ranks import UInt64Array, ranks
from src.schema import FAKE, LABELS, METADATA, REAL, SPLIT_TABLE, SPLITS, read_table, write_table

Fraction = Annotated[float, Field(gt=0, lt=1)]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_READ = [column for column in SPLIT_TABLE if column != "split"]
# Images that are alike to the draw; `mix` is the category, where categories are matched.
_CELL = ["split", "label", "method", "mix"]


@dataclass(frozen=True, config=STRICT)
class SplitParams:
    """Section `split` of params.yaml."""

    images_per_class: Annotated[int, Field(gt=0)] | None
    test_fraction: Fraction
    val_fraction: Fraction
    fold: Annotated[int, Field(ge=0)]
    match_categories: bool
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_csv", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    metadata = read_table(args.metadata_csv, METADATA, [*_READ, "key"])
    splits = balanced_split(metadata, params)
    write_table(splits, args.splits_csv, SPLIT_TABLE)
    write_json(summary(metadata, splits), args.metrics_json)


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return the drawn rows of `metadata` with their `split`, sorted by `image_id`.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    _check_fractions(params)
    images = metadata.assign(split=assign_splits(metadata, params))
    # Without matching, all images are of one category.
    images["mix"] = images["category"] if params.match_categories else ""
    images = images[images["mix"].isin(_common_categories(images))]
    cells = images.groupby(_CELL)
    supply = cells.size()
    quotas = _quotas(supply, params)
    number = cells.ngroup().to_numpy()
    rank = ranks(images["key"].to_numpy(), params.seed)
    drawn = images[_first_of_each(number, rank, quotas.to_numpy())]
    return drawn[list(SPLIT_TABLE)].sort_values("image_id", ignore_index=True)


def assign_splits(metadata: pd.DataFrame, params: SplitParams) -> NDArray[np.str_]:
    """Return the split of each row; a group has one, whatever will be drawn from it.

    The test sets of folds 0, 1, ... do not overlap, and 1 / test_fraction of them, where that is
    a whole number, hold every image once: cross-validation.
    """
    group, _ = pd.factorize(metadata["group"])
    place = _places(metadata, group, params.seed)
    is_test = np.floor(place / params.test_fraction) == params.fold
    after_test = (place - (params.fold + 1) * params.test_fraction) % 1
    is_val = after_test < params.val_fraction
    split: NDArray[np.str_] = np.select([is_test, is_val], ["test", "val"], "train")
    return split[group]


def _places(metadata: pd.DataFrame, group: IntArray, seed: int) -> FloatArray:
    """Return a place in [0, 1) for each group; of each stratum, equal parts lie in equal slices."""
    # A group counts as what its real image is, if it has one; of several, its key decides.
    order = _order(metadata["label"].to_numpy(), metadata["key"].to_numpy())[::-1]
    place_of = np.empty(group.max() + 1, dtype=np.int64)
    place_of[group[order]] = order  # of equal groups, the last one written stays
    first = metadata.iloc[place_of]
    stratum = first.groupby(["label", "method", "category"]).ngroup().to_numpy()
    rank = ranks(first["key"].to_numpy(), seed)
    size = np.bincount(group)
    order = _order(stratum, rank)
    start = np.flatnonzero(np.diff(stratum[order], prepend=-1))  # of each stratum
    before = np.cumsum(size[order]) - size[order]
    before = before - before[start][stratum[order]]
    share = before / np.bincount(stratum, weights=size)[stratum[order]]
    # Each stratum begins at a place of its own, or the small ones would all be in the same fold.
    offset = ranks(rank[order[start]], seed) / 2.0**64
    place = np.empty(len(order))
    place[order] = (share + offset[stratum[order]]) % 1
    return place


def _order(part: NDArray[np.integer], rank: UInt64Array) -> IntArray:
    """Return the order by part, and by rank within it."""
    # A radix sort of few parts after a vectorised one: three times as fast as lexsort.
    order = np.argsort(rank)
    few = part[order].astype(np.min_scalar_type(part.max()))
    return order[np.argsort(few, kind="stable")]


def _first_of_each(
    part: NDArray[np.integer], rank: UInt64Array, quota: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Return whether an element has one of the `quota[part]` smallest ranks of its part."""
    order = _order(part, rank)
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


def _check_fractions(params: SplitParams) -> None:
    if params.test_fraction + params.val_fraction >= 1:
        raise InputError(
            f"split.test_fraction = {params.test_fraction} and split.val_fraction = "
            f"{params.val_fraction} leave nothing to train on; their sum must be below 1"
        )
    folds = int(1 / params.test_fraction + 1e-9)
    if params.fold >= folds:
        raise InputError(
            f"split.fold = {params.fold}: with split.test_fraction = {params.test_fraction} there "
            f"are folds 0 to {folds - 1}"
        )


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
    in_use = metadata[metadata["category"].isin(splits["category"])]
    methods = {
        name: in_use.loc[in_use["label"] == label, "method"].unique().tolist()
        for label, name in LABELS.items()
    }
    return {
        "images": len(splits),
        "images_per_class": len(splits) // len(LABELS),
        "share": splits["split"].value_counts(normalize=True).to_dict(),
        "leaked_groups": int((splits.groupby("group")["split"].nunique() > 1).sum()),
        "counts": {str(split): _counts(rows) for split, rows in named.groupby("split")},
        "imbalance": {
            str(split): _imbalances(rows, methods) for split, rows in named.groupby("split")
        },
        "left_out": _left_out(metadata, splits),
    }


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
