"""Which split each image belongs to, so that no group of images is on both sides of training."""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import FloatArray, IntArray, UInt64Array
from src.core.cli import InputError
from src.core.hashing import ranks
from src.core.params import STRICT
from src.core.tables import HOLDOUT
from src.dataset.sampling_index import GIVEN, Images, coded
from src.dataset.strata import rows_of_codes

Fraction = Annotated[float, Field(gt=0, lt=1)]
CodeArray = NDArray[np.int8]
_Value = TypeVar("_Value", bound=np.generic)

PLACES = (*GIVEN, HOLDOUT)  # where an image can be, the first being none: LEFT_OUT
LEFT_OUT = PLACES[0]
_DTYPE = pd.CategoricalDtype(list(PLACES))
_PIECE = 1 << 15  # ranks that are made at a time: as many as stay near the processor
_LEFT_OUT, _TRAIN, _VAL, _TEST, _HOLDOUT = np.arange(len(PLACES), dtype=np.int8)


@dataclass(frozen=True, config=STRICT)
class AssignmentParams:
    """What section `split` of params.yaml says about which image is in which split."""

    test_fraction: Fraction
    val_fraction: Fraction
    fold: Annotated[int, Field(ge=0)]
    honour_given_split: bool
    holdout_methods: tuple[str, ...]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def assign_splits(metadata: pd.DataFrame | Images, params: AssignmentParams) -> pd.Categorical:
    """Return the split of each row, whatever will be drawn from it: one of PLACES.

    A group is in one split. The test sets of folds 0, 1, ... do not overlap, and 1 / test_fraction
    of them, where that is a whole number, hold every image once: cross-validation.

    Raises:
        InputError: the fractions leave no room, there is no such fold, or none because the data
            set gives all splits, or a method is unknown.
    """
    images = coded(metadata)
    return as_places(place_codes(images, ranks_of(images, params), params))


def as_places(code: CodeArray) -> pd.Categorical:
    """Return the names of places by their numbers in PLACES."""
    return pd.Categorical.from_codes(code, dtype=_DTYPE)


def ranks_of(images: Images, params: AssignmentParams) -> UInt64Array:
    """Return the rank of each image, which decides where it is and whether it is drawn."""
    rank = np.empty_like(images.key)
    for start in range(0, len(rank), _PIECE):
        rank[start : start + _PIECE] = ranks(images.key[start : start + _PIECE], params.seed)
    return rank


def place_codes(images: Images, rank: UInt64Array, params: AssignmentParams) -> CodeArray:
    """Return `assign_splits` of images with these ranks, as numbers of PLACES."""
    _check_fractions(params)

    def cut(place: FloatArray) -> CodeArray:
        is_test = np.floor(place / params.test_fraction) == params.fold
        after_test = _wrapped(place - (params.fold + 1) * params.test_fraction)
        is_val = after_test < params.val_fraction
        return np.select([is_test, is_val], [_TEST, _VAL], _TRAIN)

    first, last = params.fold * params.test_fraction, (params.fold + 1) * params.test_fraction
    bounds = [first, last, last + params.val_fraction]
    split = _by_place(images, rank, params.seed, cut, bounds)
    if params.honour_given_split:
        split = _given(images, rank, split, params)
    if params.holdout_methods:
        split = _held_out(images, split, params.holdout_methods)
    return split


def _given(
    images: Images, rank: UInt64Array, split: CodeArray, params: AssignmentParams
) -> CodeArray:
    """Return `split`, changed to the one that the data set gives where it does.

    A group that the data set has on both sides is judged on, not trained on: its images that were
    given an earlier split are left out.
    """
    given = images.given_split
    if params.fold and (given != _LEFT_OUT).all():
        raise InputError(
            f"split.fold = {params.fold}: the data set gives every image its split, so that all "
            "folds would be the same; set split.honour_given_split: false to cut folds"
        )
    group = _groups(images)
    latest = np.full(len(group), _LEFT_OUT)
    np.maximum.at(latest, group, given)
    # Without a validation set of its own, a data set's training images give one, in proportion.
    with_val = {kind.method for kind, rows in images.kinds.items() if (given[rows] == _VAL).any()}
    without_val = np.zeros(len(group), dtype=bool)
    is_without = np.array([kind.method not in with_val for kind in images.kinds])
    np.logical_or.at(without_val, group, _of_kinds(images, is_without))
    val_part = params.val_fraction / (1 - params.test_fraction)

    def cut(place: FloatArray) -> CodeArray:
        return (place < val_part).astype(np.int8)

    is_early = _by_place(images, rank, params.seed, cut, [val_part])
    is_val = (latest[group] == _TRAIN) & without_val[group] & (is_early > 0)
    name = np.where(is_val, _VAL, latest[group])
    result = np.where(name == _LEFT_OUT, split, name)
    result[(given != _LEFT_OUT) & (given < latest[group])] = _LEFT_OUT
    return result


def _held_out(images: Images, split: CodeArray, names: Collection[str]) -> CodeArray:
    """Return `split` with the images of the methods `names` in HOLDOUT, or left out.

    Left out are those whose group is trained on: a fake made from a training photograph is not
    new to the detector.
    """
    known = sorted({kind.method for kind in images.kinds})
    for name in names:
        if name not in known:
            raise InputError(f"split.holdout_methods: {name!r} is unknown; choose from {known}")
    group = _groups(images)
    is_held = _of_kinds(images, np.array([kind.method in names for kind in images.kinds]))
    others = np.bincount(group, ~is_held)[group]
    is_new = (split == _TEST) | (others == 0)
    return np.where(is_held, np.where(is_new, _HOLDOUT, _LEFT_OUT), split)


def _groups(images: Images) -> IntArray:
    """Return a number for the group of each row: the row that it counts as."""
    return np.arange(len(images.key)) + images.to_representative


def _of_kinds(images: Images, values: NDArray[_Value]) -> NDArray[_Value]:
    """Return for each row the one of `values` that is its kind's."""
    result = np.empty(len(images.key), values.dtype)
    for rows, value in zip(images.kinds.values(), values, strict=True):
        result[rows] = value
    return result


def _by_place(
    images: Images,
    rank: UInt64Array,
    seed: int,
    cut: Callable[[FloatArray], CodeArray],
    bounds: Sequence[float],
) -> CodeArray:
    """Return for each row what `cut` makes of the place of its group.

    A place is in [0, 1), and of each kind, equal parts lie in equal slices of it. `cut` changes at
    `bounds` (modulo 1) only, so that nothing but the ranks at these is needed of the order.
    """
    ends = np.array([0, *bounds])
    distance = images.to_representative
    joined = np.flatnonzero(distance)  # they count as another image, of its kind
    other = joined + distance[joined]
    guests = _by_kind(images, other)
    result = np.empty(len(rank), dtype=np.int8)
    for number, rows in enumerate(images.kinds.values()):
        own = rank[rows]
        order = np.append(own[distance[rows] == 0], rank[guests.get(number, other[:0])])
        if not len(order):
            continue
        # Each kind begins at a place of its own, or the small ones would be in the same fold.
        offset = ranks(order.min(keepdims=True), seed) / 2.0**64
        position = _beside(_wrapped(ends - offset) * len(order), len(order))
        value = cut(_wrapped(position / len(order) + offset))
        step = np.diff(value)
        last = np.flatnonzero(step)  # of each slice but the final one
        found = np.full(len(own), value[0])
        start = 0
        for end, change in zip(position[last], step[last], strict=True):
            order[start:].partition(end - start)  # a third of what it costs to sort them all
            # A group is where its first image is: all of it is in the slice that this one is in.
            found += change * (own > order[end])  # half of them, at random: no mask is as fast
            start = end
        result[rows] = found
    result[joined] = result[other]
    return result


def _by_kind(images: Images, rows: IntArray) -> dict[int, IntArray]:
    """Return those of `rows` that are of the first kind, the second, ..., where there are any."""
    count = len(images.kinds)
    kind = _of_kinds(images, np.arange(count, dtype=np.min_scalar_type(count)))
    present, parts = rows_of_codes(kind[rows])
    return {number: rows[part] for number, part in zip(present.tolist(), parts, strict=True)}


def _beside(bounds: FloatArray, length: int) -> IntArray:
    """Return the first of `length` positions, and those around `bounds`, in order."""
    near = bounds.astype(np.int64)[:, None] + np.arange(-1, 3)  # rounding is less than one
    return np.unique(np.append(near.clip(0, length - 1), 0))


def _wrapped(place: FloatArray) -> FloatArray:
    """Return `place` modulo 1, at a fifth of the cost of `%`."""
    return place - np.floor(place)


def _check_fractions(params: AssignmentParams) -> None:
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
