"""data/metadata.arrow -> data/splits.csv: train, validation and test, balanced and without leaks.

First every group of images is given to one split, by rank within its kind; then each split draws
as many real as fake images, equally from every method, with the same categories in both classes.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.assignment import LEFT_OUT, PLACES, AssignmentParams, assign_splits
from src.balance import apportion, fill, webster_sequence
from src.catalogue import KIND, coded, read_coded, read_rows
from src.cells import Numbers, Rows, find_cells, in_threads
from src.command import InputError, run
from src.files import write_json
from src.params import STRICT, load_params
from src.ranks import UInt64Array, ranks
from src.schema import FAKE, HOLDOUT, LABELS, REAL, SPLIT_TABLE, SPLITS, write_table

# Images that are alike to the draw; `mix` is the category, where categories are matched.
_KIND = ["label", "method", "mix"]
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
    rows = read_rows(args.metadata_arrow, is_used).assign(key=images["key"].to_numpy()[is_used])
    write_table(_in_order(rows, split[is_used]), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return what `draw` takes of `metadata`, as `split_table` does."""
    return split_table(metadata, draw(metadata, params))


def split_table(metadata: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    """Return the rows of `metadata` that `split` does not leave out, with it, by `image_id`."""
    is_used = split != LEFT_OUT
    return _in_order(metadata[is_used], split[is_used])[list(SPLIT_TABLE)]


def _in_order(rows: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    return rows.assign(split=split.astype(str)).sort_values("image_id", ignore_index=True)


def draw(metadata: pd.DataFrame, params: SplitParams) -> pd.Categorical:
    """Return the split that each row of `metadata` is drawn for; LEFT_OUT where it is not.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    images = coded(metadata)
    split = assign_splits(images, params)
    mix = images["category"] if params.match_categories else _ANY.repeat(len(images))
    rows, count = _count(images.assign(mix=mix), split, _KIND)
    supply = count[(count > 0) & count.index.isin(SPLITS, "split")]
    supply = supply[supply.index.isin(_common_categories(supply), "mix")].sort_index()
    quota = _quotas(supply, params).reindex(count.index, fill_value=0)
    quota = quota.mask(count.index.isin([HOLDOUT], "split"), count)
    numbers = quota.to_numpy().reshape(len(PLACES), -1).T  # (cells, places)
    key = images["key"].to_numpy()
    code = np.full(len(images), PLACES.index(LEFT_OUT), np.int8)

    def choose(rows: Rows, numbers: Numbers) -> None:
        rank, of_rows = ranks(key[rows], params.seed), split.codes[rows]
        chosen = code[rows]
        for place, number in enumerate(numbers):
            chosen[_least(np.flatnonzero(of_rows == place), rank, number)] = place
        code[rows] = chosen

    in_threads(choose, list(zip(rows, numbers, strict=True)))
    return pd.Categorical.from_codes(code, dtype=split.dtype)


def _count(
    images: pd.DataFrame, split: pd.Categorical, columns: Sequence[str]
) -> tuple[Sequence[Rows], pd.Series]:
    """Return the rows of each cell of `columns`, and for each of PLACES how many each has there."""
    index, rows = find_cells(images, columns)
    code = split.codes
    counts = [
        pd.Series([np.count_nonzero(code[some] == place) for some in rows], index)
        for place in range(len(PLACES))
    ]
    return rows, pd.concat(counts, keys=PLACES, names=["split"])


def _least(rows: Numbers, rank: UInt64Array, number: int) -> Numbers:
    """Return the `number` of `rows` with the smallest `rank`."""
    if number in (0, len(rows)):
        return rows[:number]
    return rows[np.argpartition(rank[rows], number)[:number]]


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
    """Return the images of each class in each split.

    Raises:
        InputError: a split gets none, or has fewer than its share.
    """
    room = limits.groupby("split").sum().reindex(SPLITS, fill_value=0).to_numpy()
    weights = (
        1 - params.val_fraction - params.test_fraction,
        params.val_fraction,
        params.test_fraction,
    )
    wanted = params.images_per_class or _least_and_most(weights, room)[1]
    sizes = dict(zip(SPLITS, apportion(weights, wanted).tolist(), strict=True))
    if all(0 < sizes[split] <= has for split, has in zip(SPLITS, room, strict=True)):
        return sizes
    least, most = _least_and_most(weights, room)
    for split, has in zip(SPLITS, room, strict=True):
        if sizes[split] > has or not has:
            cure = f"ask for at most {most}, " if least <= most else ""
            raise InputError(_too_few(supply, split, int(has), max(sizes[split], 1), cure))
        if not sizes[split]:
            raise InputError(_no_share(split, int(has), wanted, least, most))
    return sizes


def _least_and_most(weights: Sequence[float], room: NDArray[np.int64]) -> tuple[int, int]:
    """Return for how few and for how many images of each class every split has some and room."""
    sequence = webster_sequence(weights, room.sum() + 1)
    turns = [sequence == number for number in range(len(SPLITS))]
    # The last split to get its first image; beyond the most if the sequence ends before.
    least = max(_nth(turn, 0) for turn in turns) + 1
    # The first image that a split has no room for ends the largest draw.
    return least, min(_nth(turn, size) for turn, size in zip(turns, room, strict=True))


def _no_share(split: str, has: int, wanted: int, least: int, most: int) -> str:
    cure = (
        f"ask for at least {least}"
        if least <= most
        else f"the data allow no more than {most}: download more, or set "
        "split.match_categories: false"
    )
    return (
        f"split.images_per_class: the share of {split} rounds to 0 of {wanted} images of each "
        f"class, although it has {has}; {cure}"
    )


def _nth(mask: NDArray[np.bool_], n: int) -> int:
    """Return where the n-th True stands, counted from 0; the length if there are not so many."""
    places = np.flatnonzero(mask)
    return int(places[n]) if n < len(places) else len(mask)


def _too_few(supply: pd.Series, split: str, has: int, needs: int, cure: str) -> str:
    found = "; ".join(
        f"{name} " + (", ".join(f"{m} {n}" for m, n in _methods(supply, split, label)) or "none")
        for label, name in LABELS.items()
    )
    return (
        f"split.images_per_class: {split} needs {needs} images of each class and has {has} in "
        f"categories and classes that match (all it has: {found}); {cure}"
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
    images = coded(metadata)
    label = images["label"].cat.rename_categories(LABELS)
    _, count = _count(images.assign(label=label), split, KIND)
    cells = [_Cell._make(row) for row in count[count > 0].reset_index().to_numpy().tolist()]
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


def _leaked_groups(images: pd.DataFrame, split: pd.Categorical) -> int:
    used = np.flatnonzero(split != LEFT_OUT)
    # What is held out may share a group with test: neither is trained on.
    place = split[used].codes
    side = np.where(place == PLACES.index(HOLDOUT), PLACES.index("test"), place)
    sides = np.zeros(len(images), np.uint8)  # a bit for each
    group = used + images["to_representative"].to_numpy()[used]
    np.bitwise_or.at(sides, group, np.left_shift(1, side).astype(np.uint8))
    return int((np.bitwise_count(sides) > 1).sum())


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


if __name__ == "__main__":
    run(main)
