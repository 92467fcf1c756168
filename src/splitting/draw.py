"""A balanced draw: which images go to train, val and test, and which are left out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import BoolArray, IntArray, UInt64Array
from src.core.cli import InputError
from src.core.params import STRICT
from src.core.tables import FAKE, HOLDOUT, LABELS, REAL, SPLITS
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling_index import Images, Kind, coded
from src.dataset.strata import Numbers, Rows, joined
from src.splitting.assignment import (
    LEFT_OUT,
    PLACES,
    AssignmentParams,
    CodeArray,
    as_places,
    place_codes,
    ranks_of,
)
from src.splitting.quotas import apportion, fill, webster_sequence

Counts = Mapping[Kind, int]  # how many images of each kind


@dataclass(frozen=True, config=STRICT)
class SplitParams(AssignmentParams):
    """Section `split` of params.yaml."""

    images_per_class: Annotated[int, Field(gt=0)] | None
    match_categories: bool


def balanced_split(metadata: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """Return what `draw` takes of `metadata`, as `split_table` does."""
    return split_table(metadata, draw(metadata, params))


def split_table(metadata: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    """Return the rows of `metadata` that `split` does not leave out, with it, by `image_id`."""
    is_used = split != LEFT_OUT
    return in_order(metadata[is_used], split[is_used])[list(SPLIT_TABLE)]


def in_order(rows: pd.DataFrame, split: pd.Categorical) -> pd.DataFrame:
    """Return `rows` with the column `split`, sorted by `image_id`."""
    names = split.categories.array.take(split.codes)
    return rows.assign(split=names).sort_values("image_id", ignore_index=True)


def draw(metadata: pd.DataFrame | Images, params: SplitParams) -> pd.Categorical:
    """Return the split that each row of `metadata` is drawn for; LEFT_OUT where it is not.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    images = coded(metadata)
    rank = ranks_of(images, params)
    split = place_codes(images, rank, params)
    cells = images.kinds if params.match_categories else _of_any_category(images.kinds)
    counts = count_by_split(cells, split)
    quotas = {**_quotas(_matching(counts), params), HOLDOUT: counts[HOLDOUT]}
    code = np.empty_like(split)
    for cell, rows in cells.items():
        of_rows, of_cell = split[rows], rank[rows]
        chosen = np.full(len(of_rows), PLACES.index(LEFT_OUT), np.int8)
        for name, quota in quotas.items():
            if number := quota.get(cell, 0):
                there = np.flatnonzero(of_rows == PLACES.index(name))
                chosen[_least(there, of_cell, number)] = PLACES.index(name)
        code[rows] = chosen
    return as_places(code)


def _of_any_category(kinds: Mapping[Kind, Rows]) -> dict[Kind, Rows]:
    """Return `kinds` without their categories, as these need not match."""
    parts: dict[Kind, list[Rows]] = {}
    for kind, rows in kinds.items():
        parts.setdefault(kind._replace(category=""), []).append(rows)
    return {kind: joined(rows) for kind, rows in parts.items()}


def count_by_split(cells: Mapping[Kind, Rows], split: CodeArray) -> dict[str, Counts]:
    """Return for each of PLACES how many images of each cell are there, of those that have any."""
    return {
        place: {
            cell: number
            for cell, rows in cells.items()
            if (number := int(np.count_nonzero(split[rows] == code)))
        }
        for code, place in enumerate(PLACES)
    }


def _matching(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """Return those `counts` of SPLITS whose category both classes have."""
    common = _common_categories({cell for split in SPLITS for cell in counts[split]})
    return {
        split: {cell: count for cell, count in counts[split].items() if cell.category in common}
        for split in SPLITS
    }


def _least(rows: Numbers, rank: UInt64Array, number: int) -> Numbers:
    """Return the `number` of `rows` with the smallest `rank`."""
    if number == len(rows):
        return rows
    return rows[np.argpartition(rank[rows], number)[:number]]


def _quotas(supply: Mapping[str, Counts], params: SplitParams) -> dict[str, Counts]:
    """Return how many images to draw of each cell of `supply`, split by split."""
    limits = {split: _limits(cells) for split, cells in supply.items()}
    sizes = _split_sizes(supply, limits, params)
    return {split: _quota(supply[split], limits[split], size) for split, size in sizes.items()}


def _limits(cells: Counts) -> dict[str, int]:
    """Return as many of each category as the class that has fewer of it."""
    images = {label: Counter[str]() for label in LABELS}
    for cell, count in cells.items():
        images[cell.label][cell.category] += count
    categories = sorted({cell.category for cell in cells})
    return {name: min(of_class[name] for of_class in images.values()) for name in categories}


def _quota(cells: Counts, limit: Mapping[str, int], size: int) -> Counts:
    names = np.array(list(limit), object)
    categories = names[webster_sequence(list(limit.values()), size)].tolist()
    quota = {}
    for label in LABELS:
        available = {(k.method, k.category): n for k, n in cells.items() if k.label == label}
        for (method, category), count in fill(categories, available).items():
            quota[Kind(label, method, category)] = count
    return quota


def _split_sizes(
    supply: Mapping[str, Counts], limits: Mapping[str, Mapping[str, int]], params: SplitParams
) -> dict[str, int]:
    """Return the images of each class in each split.

    Raises:
        InputError: a split gets none, or has fewer than its share.
    """
    room = np.array([sum(limits[split].values()) for split in SPLITS])
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
            raise InputError(_too_few(supply[split], split, int(has), max(sizes[split], 1), cure))
        if not sizes[split]:
            raise InputError(_no_share(split, int(has), wanted, least, most))
    return sizes


def _least_and_most(weights: Sequence[float], room: IntArray) -> tuple[int, int]:
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


def _nth(mask: BoolArray, n: int) -> int:
    """Return where the n-th True stands, counted from 0; the length if there are not so many."""
    places = np.flatnonzero(mask)
    return int(places[n]) if n < len(places) else len(mask)


def _too_few(cells: Counts, split: str, has: int, needs: int, cure: str) -> str:
    found = "; ".join(
        f"{name} " + (", ".join(f"{m} {n}" for m, n in _methods(cells, label)) or "none")
        for label, name in LABELS.items()
    )
    return (
        f"split.images_per_class: {split} needs {needs} images of each class and has {has} in "
        f"categories and classes that match (all it has: {found}); {cure}"
        "download more, or set split.match_categories: false"
    )


def _methods(cells: Counts, label: int) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for cell, count in cells.items():
        if cell.label == label:
            counts[cell.method] += count
    return sorted(counts.items())


def _common_categories(cells: Iterable[Kind]) -> set[str]:
    found: dict[int, set[str]] = {label: set() for label in LABELS}
    for cell in cells:
        found[cell.label].add(cell.category)
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
