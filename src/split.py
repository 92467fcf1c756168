"""data/metadata.arrow -> data/splits.csv: train, validation and test, balanced and without leaks.

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

from src.assignment import LEFT_OUT, PLACES, AssignmentParams, assign_splits
from src.balance import apportion, fill, webster_sequence
from src.catalogue import coded, read_coded, read_rows
from src.cells import Numbers, count_cells, rows_of_cells
from src.command import InputError, run
from src.files import write_json
from src.params import STRICT, load_params
from src.ranks import UInt64Array, ranks
from src.schema import FAKE, HOLDOUT, LABELS, REAL, SPLIT_TABLE, SPLITS, write_table

# Images that are alike to the draw; `mix` is the category, where categories are matched.
_CELL = ["split", "label", "method", "mix"]
_ANY = pd.Categorical([""])  # the one category of all images, where they are not matched


@dataclass(frozen=True, config=STRICT)
class SplitParams(AssignmentParams):
    """Section `split` of params.yaml."""

    images_per_class: Annotated[int, Field(gt=0)] | None
    match_categories: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_arrow", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    images = read_coded(args.metadata_arrow)
    split = draw(images, params)
    is_used = split != LEFT_OUT
    rows = read_rows(args.metadata_arrow, is_used)
    write_table(split_table(rows, split[is_used]), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return what `draw` takes of `metadata`, as `split_table` does."""
    return split_table(metadata, draw(metadata, params))


def split_table(metadata: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    """Return the rows of `metadata` that `split` does not leave out, with it, by `image_id`."""
    is_used = split != LEFT_OUT
    table = metadata[is_used].assign(split=split[is_used].astype(str))
    return table[list(SPLIT_TABLE)].sort_values("image_id", ignore_index=True)


def draw(metadata: pd.DataFrame, params: SplitParams) -> pd.Categorical:
    """Return the split that each row of `metadata` is drawn for; LEFT_OUT where it is not.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    images = coded(metadata)
    split = assign_splits(images, params)
    images = images.assign(split=split, mix=images["category"])
    if not params.match_categories:
        images["mix"] = _ANY.repeat(len(images))
    cell, count = count_cells(images, _CELL)
    supply = count[count.index.isin(SPLITS, "split")]
    supply = supply[supply.index.isin(_common_categories(supply), "mix")].sort_index()
    quota = _quotas(supply, params).reindex(count.index, fill_value=0)
    is_held = count.index.isin([HOLDOUT], "split")
    quota = quota.mask(is_held, count)
    key = images["key"].to_numpy()
    is_drawn = np.zeros(len(images), dtype=bool)
    for rows, number in zip(rows_of_cells(cell, count.to_numpy()), quota, strict=True):
        is_drawn[_least(rows, ranks(key[rows], params.seed), number)] = True
    code = np.where(is_drawn, split.codes, PLACES.index(LEFT_OUT))
    return pd.Categorical.from_codes(code, dtype=split.dtype)


def _least(rows: Numbers, rank: UInt64Array, number: int) -> Numbers:
    """Return the `number` of `rows` with the smallest ranks."""
    return rows if number == len(rows) else rows[np.argpartition(rank, number)[:number]]


def _quotas(supply: pd.Series, params: SplitParams) -> pd.Series:
    """Return how many images to draw of each cell of `supply`."""
    # As many of a category as the class that has fewer of it, split by split.
    by_class = supply.groupby(["split", "mix", "label"]).sum().unstack("label", fill_value=0)
    limits = by_class.min(axis=1)
    sizes = _split_sizes(supply, limits, params)
    quotas = {}
    for split, size in sizes.items():
        limit = limits[split]
        categories = limit.index[webster_sequence(limit.to_numpy(), size)].tolist()
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


def _common_categories(supply: pd.Series) -> set[str]:
    cells = supply.index.to_frame()
    found = {label: set(cells.loc[cells["label"] == label, "mix"]) for label in LABELS}
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


def summary(metadata: pd.DataFrame, split: pd.Categorical) -> dict[str, Any]:
    """Return the metrics: what `split` draws from `metadata`, how evenly, and what it leaves out.

    `imbalance` is 1 - smallest / largest: 0 where all have the same number of images, 1 where one
    has none.
    """
    images = coded(metadata).assign(split=split)
    _, count = count_cells(images, ["split", "label", "method", "category"])
    cells = count.rename("images").reset_index()
    used = cells[cells["split"] != LEFT_OUT]
    drawn, held_out = used[used["split"] != HOLDOUT], used[used["split"] == HOLDOUT]
    in_use = cells[
        cells["category"].isin(drawn["category"]) & ~cells["method"].isin(held_out["method"])
    ]
    methods = {
        name: in_use.loc[in_use["label"] == label, "method"].unique().tolist()
        for label, name in LABELS.items()
    }
    total = int(drawn["images"].sum())
    return {
        "images": int(used["images"].sum()),
        "images_per_class": total // len(LABELS),
        "share": {name: count / total for name, count in _by(drawn, "split").items()},
        "leaked_groups": _leaked_groups(images),
        "counts": {str(name): _counts(rows) for name, rows in used.groupby("split")},
        "imbalance": {
            str(name): _imbalances(rows, methods) for name, rows in drawn.groupby("split")
        },
        "left_out": _left_out(cells, used),
    }


def _by(cells: pd.DataFrame, column: str) -> dict[str, int]:
    """Return the images of each value of `column`."""
    counts: dict[str, int] = cells.groupby(column)["images"].sum().to_dict()  # type: ignore[assignment]
    return counts


def _leaked_groups(images: pd.DataFrame) -> int:
    used = images.loc[images["split"] != LEFT_OUT, ["split", "group_number"]]
    # What is held out may share a group with test: neither is trained on.
    side = used["split"].cat.codes.where(used["split"] != HOLDOUT, PLACES.index("test"))
    sides = used.assign(split=side).drop_duplicates()["group_number"]
    return sides[sides.duplicated()].nunique()


def _counts(cells: pd.DataFrame) -> dict[str, Any]:
    return {
        name: {
            "images": int(of_label["images"].sum()),
            "by_method": _by(of_label, "method"),
            "by_category": _by(of_label, "category"),
        }
        for label, name in LABELS.items()
        if len(of_label := cells[cells["label"] == label])
    }


def _imbalances(cells: pd.DataFrame, methods: Mapping[str, list[str]]) -> dict[str, float]:
    imbalances = {"label": _imbalance(list(_by(cells, "label").values()))}
    for label, name in LABELS.items():
        counts = _by(cells[cells["label"] == label], "method")
        imbalances[f"method_of_{name}"] = _imbalance([counts.get(m, 0) for m in methods[name]])
    return imbalances


def _imbalance(counts: Sequence[int]) -> float:
    return 1 - min(counts) / max(counts)


def _left_out(cells: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    rest = cells[cells["split"] == LEFT_OUT]
    by_class = cells.groupby(["category", "label"])["images"].sum().unstack(fill_value=0)
    one_class = by_class[(by_class == 0).any(axis=1)].rename(columns=LABELS)
    unmatched = one_class[~one_class.index.isin(used["category"])]
    return {
        "images": int(rest["images"].sum()),
        "by_method": _by(rest, "method"),
        # Their number in each class: what only one class shows would give it away.
        "unmatched_categories": unmatched.to_dict("index"),
    }


if __name__ == "__main__":
    run(main)
