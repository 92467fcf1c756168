"""Which split each image belongs to, so that no group of images is on both sides of training."""

from collections.abc import Callable, Collection
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import BoolArray, FloatArray, IntArray, UInt64Array
from src.core.cli import InputError
from src.core.hashing import ranks
from src.core.params import STRICT
from src.core.tables import HOLDOUT, SPLITS
from src.dataset.sampling import Images, rows_of_each

Fraction = Annotated[float, Field(gt=0, lt=1)]

LEFT_OUT = ""
ASSIGNED = (LEFT_OUT, *SPLITS, HOLDOUT)
_LEFT_OUT, _TRAIN, _VAL, _TEST, _HOLDOUT = range(len(ASSIGNED))


@dataclass(frozen=True, config=STRICT)
class SplitParams:
    """Section `split` of params.yaml."""

    images_per_class: Annotated[int, Field(gt=0, le=10**9)] | None
    match_categories: bool
    test_fraction: Fraction
    val_fraction: Fraction
    fold: Annotated[int, Field(ge=0, lt=1000)]
    honour_given_split: bool
    holdout_methods: tuple[str, ...]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def assign_splits(images: Images, rank: UInt64Array, params: SplitParams) -> IntArray:
    """Return the split of each image, whatever will be drawn: which of ASSIGNED.

    `rank` is `ranks` of their keys by `params.seed`.

    A group is in one split. The test sets of folds 0, 1, ... do not overlap, and 1 / test_fraction
    of them, where that is a whole number, hold every image once: cross-validation.

    Raises:
        InputError: the fractions leave no room, there is no such fold, or none because the data
            set gives all splits, or a method is unknown.
    """
    _check_fractions(params)

    def cut(position: FloatArray) -> IntArray:
        after_test = (position - (params.fold + 1) * params.test_fraction) % 1
        split = np.where(after_test < params.val_fraction, _VAL, _TRAIN)
        return np.where(np.floor(position / params.test_fraction) == params.fold, _TEST, split)

    split = _by_position(images, rank, cut, params.seed)
    if params.honour_given_split:
        split = _given(images, rank, split, params)
    if params.holdout_methods:
        split = _held_out(images, split, params.holdout_methods)
    return split


def _by_position(
    images: Images, rank: UInt64Array, cut: Callable[[FloatArray], IntArray], seed: int
) -> IntArray:
    """Return what `cut` makes, image by image, of the position in [0, 1) of its group.

    Of each stratum, equal parts lie in equal slices of [0, 1). All of a group count in the stratum
    of its representative.
    """
    rank = rank[images.representative]
    result = np.empty(len(rank), dtype=np.int64)
    for rows in rows_of_each(images.stratum[images.representative], len(images.strata)):
        if len(rows):
            in_order = np.sort(rank[rows])
            # Each stratum begins at a point of its own, or small ones would be in the same fold.
            offset = ranks(in_order[:1], seed) / 2.0**64
            value = cut((np.arange(len(rows)) / len(rows) + offset) % 1)
            last = np.flatnonzero(np.diff(value))  # of each slice
            # A group lies where the first of it does: not beyond a bound that it reaches.
            part = np.searchsorted(in_order[last], rank[rows])
            result[rows] = value[np.append(last, -1)][part]
    return result


def _given(images: Images, rank: UInt64Array, split: IntArray, params: SplitParams) -> IntArray:
    """Return `split`, changed to the one that the data set gives where it does.

    A group that the data set has on both sides is evaluated, not trained on: its images that were
    given an earlier split are left out.
    """
    given, group = images.given_split, images.representative
    if params.fold and (given != _LEFT_OUT).all():
        raise InputError(
            f"split.fold = {params.fold}: the data set gives every image its split, so that all "
            "folds would be the same; set split.honour_given_split: false to cut folds"
        )
    latest = np.full(len(group), _LEFT_OUT)
    np.maximum.at(latest, group, given)
    latest = latest[group]
    # Without a validation set of its own, a method's training images give one, in proportion.
    part = params.val_fraction / (1 - params.test_fraction)
    has_val = images.strata["method"].isin(
        images.strata["method"].iloc[np.unique(images.stratum[given == _VAL])]
    )

    def cut(position: FloatArray) -> IntArray:
        return (position < part).astype(np.int64)

    is_val = _by_position(images, rank, cut, params.seed) > 0
    is_without = _of_groups(group, ~has_val.to_numpy()[images.stratum])
    name = np.where(is_without & (latest == _TRAIN) & is_val, _VAL, latest)
    result = np.where(name == _LEFT_OUT, split, name)
    result[(given != _LEFT_OUT) & (given < latest)] = _LEFT_OUT
    return result


def _held_out(images: Images, split: IntArray, methods: Collection[str]) -> IntArray:
    """Return `split` with the images of `methods` in HOLDOUT, or left out.

    Left out are those whose group is trained on: a fake made from a training photograph is not
    new to the detector.
    """
    known = sorted(images.strata["method"].unique())
    for name in methods:
        if name not in known:
            raise InputError(f"split.holdout_methods: {name!r} is unknown; choose from {known}")
    is_held = images.strata["method"].isin(methods).to_numpy()[images.stratum]
    is_new = (split == _TEST) | ~_of_groups(images.representative, ~is_held)
    return np.where(is_held, np.where(is_new, _HOLDOUT, _LEFT_OUT), split)


def _of_groups(group: IntArray, is_one: BoolArray) -> BoolArray:
    """Return for each image whether any of its group `is_one`."""
    result = np.zeros(len(group), dtype=bool)
    result[group[is_one]] = True
    return result[group]


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
