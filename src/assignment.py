"""Which split each image belongs to, so that no group of images is on both sides of training."""

from collections.abc import Collection
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.command import InputError
from src.params import STRICT
from src.ranks import order_by_part, ranks
from src.schema import HOLDOUT, SPLITS

Fraction = Annotated[float, Field(gt=0, lt=1)]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]

LEFT_OUT = ""


@dataclass(frozen=True, config=STRICT)
class AssignmentParams:
    """What section `split` of params.yaml says about which image is in which split."""

    test_fraction: Fraction
    val_fraction: Fraction
    fold: Annotated[int, Field(ge=0)]
    honour_given_split: bool
    holdout_methods: tuple[str, ...]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def assign_splits(metadata: pd.DataFrame, params: AssignmentParams) -> StrArray:
    """Return the split of each row, whatever will be drawn from it: SPLITS, HOLDOUT or LEFT_OUT.

    A group is in one split. The test sets of folds 0, 1, ... do not overlap, and 1 / test_fraction
    of them, where that is a whole number, hold every image once: cross-validation.

    Raises:
        InputError: the fractions leave no room, there is no such fold, or a method is unknown.
    """
    _check_fractions(params)
    group, _ = pd.factorize(metadata["group"])
    place = _places(metadata, group, params.seed)
    is_test = np.floor(place / params.test_fraction) == params.fold
    after_test = (place - (params.fold + 1) * params.test_fraction) % 1
    is_val = after_test < params.val_fraction
    split: StrArray = np.select([is_test, is_val], ["test", "val"], "train")[group]
    if params.honour_given_split:
        split = _given(metadata, group, place, split, params)
    if params.holdout_methods:
        split = _held_out(metadata["method"], group, split, params.holdout_methods)
    return split


def _given(
    metadata: pd.DataFrame,
    group: IntArray,
    place: FloatArray,
    split: StrArray,
    params: AssignmentParams,
) -> StrArray:
    """Return `split`, changed to the one that the data set gives where it does.

    A group that the data set has on both sides is judged on, not trained on: its images that were
    given an earlier split are left out.
    """
    order = np.array([LEFT_OUT, *SPLITS])
    given = pd.Categorical(metadata["given_split"], categories=list(order)).codes.astype(np.int64)
    latest = np.zeros(len(place), dtype=np.int64)
    np.maximum.at(latest, group, given)
    # Without a validation set of its own, a data set's training images give one, in proportion.
    with_val = metadata.loc[metadata["given_split"] == "val", "method"].unique()
    without_val = np.zeros(len(place), dtype=bool)
    np.logical_or.at(without_val, group, ~metadata["method"].isin(with_val).to_numpy())
    val_part = params.val_fraction / (1 - params.test_fraction)
    is_val = (order[latest] == "train") & without_val & (place < val_part)
    name = np.where(is_val, "val", order[latest])[group]
    result: StrArray = np.where(latest[group] == 0, split, name)
    result[(given > 0) & (given < latest[group])] = LEFT_OUT
    return result


def _held_out(
    method: pd.Series, group: IntArray, split: StrArray, names: Collection[str]
) -> StrArray:
    """Return `split` with the images of the methods `names` in HOLDOUT, or left out.

    Left out are those whose group is trained on: a fake made from a training photograph is not
    new to the detector.
    """
    for name in names:
        if name not in set(method):
            raise InputError(
                f"split.holdout_methods: {name!r} is unknown; choose from {sorted(set(method))}"
            )
    is_held: BoolArray = method.isin(names).to_numpy()
    others = np.bincount(group, ~is_held)[group]
    return np.where(is_held, np.where((split == "test") | (others == 0), HOLDOUT, LEFT_OUT), split)


def _places(metadata: pd.DataFrame, group: IntArray, seed: int) -> FloatArray:
    """Return a place in [0, 1) for each group; of each stratum, equal parts lie in equal slices."""
    # A group counts as what its real image is, if it has one; of several, its key decides.
    order = order_by_part(metadata["label"].to_numpy(), metadata["key"].to_numpy())[::-1]
    place_of = np.empty(group.max() + 1, dtype=np.int64)
    place_of[group[order]] = order  # of equal groups, the last one written stays
    first = metadata.iloc[place_of]
    stratum = first.groupby(["label", "method", "category"]).ngroup().to_numpy()
    rank = ranks(first["key"].to_numpy(), seed)
    size = np.bincount(group)
    order = order_by_part(stratum, rank)
    start = np.flatnonzero(np.diff(stratum[order], prepend=-1))  # of each stratum
    before = np.cumsum(size[order]) - size[order]
    before = before - before[start][stratum[order]]
    share = before / np.bincount(stratum, weights=size)[stratum[order]]
    # Each stratum begins at a place of its own, or the small ones would all be in the same fold.
    offset = ranks(rank[order[start]], seed) / 2.0**64
    place = np.empty(len(order))
    place[order] = (share + offset[stratum[order]]) % 1
    return place


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
