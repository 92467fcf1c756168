"""Which split each image belongs to, so that no group of images is on both sides of training."""

from collections.abc import Collection
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.catalogue import coded
from src.cells import count_cells, in_threads, rows_of_cells
from src.command import InputError
from src.params import STRICT
from src.ranks import ranks
from src.schema import HOLDOUT, SPLITS

Fraction = Annotated[float, Field(gt=0, lt=1)]
BoolArray = NDArray[np.bool_]
CodeArray = NDArray[np.int8]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer]

LEFT_OUT = ""
PLACES = (LEFT_OUT, *SPLITS, HOLDOUT)  # where an image can be; _given needs this order
_STRATUM = ["label", "method", "category"]
_DTYPE = pd.CategoricalDtype(list(PLACES))
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


def assign_splits(metadata: pd.DataFrame, params: AssignmentParams) -> pd.Categorical:
    """Return the split of each row, whatever will be drawn from it: one of PLACES.

    A group is in one split. The test sets of folds 0, 1, ... do not overlap, and 1 / test_fraction
    of them, where that is a whole number, hold every image once: cross-validation.

    Raises:
        InputError: the fractions leave no room, there is no such fold, or none because the data
            set gives all splits, or a method is unknown.
    """
    _check_fractions(params)
    images = coded(metadata)
    group = images["group_number"].to_numpy()
    place = _places(images, group, params.seed)
    is_test = np.floor(place / params.test_fraction) == params.fold
    after_test = _wrapped(place - (params.fold + 1) * params.test_fraction)
    is_val = after_test < params.val_fraction
    split: CodeArray = np.select([is_test, is_val], [_TEST, _VAL], _TRAIN)[group]
    if params.honour_given_split:
        split = _given(images, group, place, split, params)
    if params.holdout_methods:
        split = _held_out(images["method"], group, split, params.holdout_methods)
    return pd.Categorical.from_codes(split, dtype=_DTYPE)


def _given(
    images: pd.DataFrame,
    group: IntArray,
    place: FloatArray,
    split: CodeArray,
    params: AssignmentParams,
) -> CodeArray:
    """Return `split`, changed to the one that the data set gives where it does.

    A group that the data set has on both sides is judged on, not trained on: its images that were
    given an earlier split are left out.
    """
    given = pd.Categorical(images["given_split"], categories=list(PLACES)).codes
    if params.fold and (given != _LEFT_OUT).all():
        raise InputError(
            f"split.fold = {params.fold}: the data set gives every image its split, so that all "
            "folds would be the same; set split.honour_given_split: false to cut folds"
        )
    latest = np.full(len(place), _LEFT_OUT)
    np.maximum.at(latest, group, given)
    # Without a validation set of its own, a data set's training images give one, in proportion.
    with_val = images.loc[given == _VAL, "method"].unique()
    without_val = np.zeros(len(place), dtype=bool)
    np.logical_or.at(without_val, group, ~images["method"].isin(with_val).to_numpy())
    val_part = params.val_fraction / (1 - params.test_fraction)
    is_val = (latest == _TRAIN) & without_val & (place < val_part)
    name = np.where(is_val, _VAL, latest)[group]
    result = np.where(name == _LEFT_OUT, split, name)
    result[(given != _LEFT_OUT) & (given < latest[group])] = _LEFT_OUT
    return result


def _held_out(
    method: pd.Series, group: IntArray, split: CodeArray, names: Collection[str]
) -> CodeArray:
    """Return `split` with the images of the methods `names` in HOLDOUT, or left out.

    Left out are those whose group is trained on: a fake made from a training photograph is not
    new to the detector.
    """
    known = sorted(method.unique())
    for name in names:
        if name not in known:
            raise InputError(f"split.holdout_methods: {name!r} is unknown; choose from {known}")
    is_held: BoolArray = method.isin(names).to_numpy()
    others = np.bincount(group, ~is_held)[group]
    is_new = (split == _TEST) | (others == 0)
    return np.where(is_held, np.where(is_new, _HOLDOUT, _LEFT_OUT), split)


def _places(images: pd.DataFrame, group: IntArray, seed: int) -> FloatArray:
    """Return a place in [0, 1) for each group; of each stratum, equal parts lie in equal slices."""
    size = np.bincount(group).astype(np.int32)
    first = _representatives(images, group, size)
    stratum, count = count_cells(images[_STRATUM].iloc[first], _STRATUM)
    key = images["key"].to_numpy()
    place = np.empty(len(size))

    def spread(rows: IntArray) -> None:
        rank = ranks(key[first[rows]], seed)
        order = np.argsort(rank)
        rows = rows[order]
        end = np.cumsum(size[rows])
        share = np.append(0, end[:-1]) / end[-1]
        # Each stratum begins at a place of its own, or the small ones would be in the same fold.
        offset = ranks(rank[order[:1]], seed) / 2.0**64
        place[rows] = _wrapped(share + offset)

    in_threads(spread, [(rows,) for rows in rows_of_cells(stratum, count.to_numpy())])
    return place


def _wrapped(place: FloatArray) -> FloatArray:
    """Return `place` modulo 1, at a fifth of the cost of `%`."""
    return place - np.floor(place)


def _representatives(images: pd.DataFrame, group: IntArray, size: IntArray) -> IntArray:
    """Return the row that each group counts as: its real image, if it has one, by the least key."""
    first = np.empty(len(size), dtype=np.int32)
    first[group] = np.arange(len(group), dtype=np.int32)
    shared = np.flatnonzero(size[group] > 1)
    label, key = images["label"].cat.codes.to_numpy(), images["key"].to_numpy()
    order = shared[np.lexsort((key[shared], label[shared]))[::-1]]
    first[group[order]] = order  # of equal groups, the last one written stays
    return first


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
