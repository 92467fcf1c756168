"""Predictions and what the pixels say -> in which slices of the images verdicts go wrong."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr

from src.core.arrays import BoolArray, FloatArray, IntArray
from src.core.cli import InputError
from src.core.tables import FAKE, LABELS
from src.evaluation.results import EvaluateParams, slices

# Columns of metadata.csv that images are sliced by; `size` is their shorter side.
MEASURES = ("brightness", "sharpness", "jpeg_quality", "width", "height")
NAMED = ("method", "family", "category")
MEASURED = ("brightness", "sharpness", "jpeg_quality", "size", "distance")
PART = "_part"
# Ends of the parts of `size`, in pixels: not quantiles, because what a generator leaves at one
# scale is gone at another, and readers ask about the size of their own pictures.
SIZES = (128, 256, 512, 1024)
SIZE_PARTS = (
    f"below {SIZES[0]} px",
    *(f"{low} to {high - 1} px" for low, high in pairwise(SIZES)),
    f"{SIZES[-1]} px or more",
)
PARTS = 3  # of a measure, with equally many images of validation in each
_COLUMNS = [
    *("name", "by", "value", "label", "images", "groups", "few"),
    *("correct", "correct_low", "correct_high", "difference", "p"),
]


def with_parts(predictions: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Return `predictions` and, for each of MEASURED, `<name>_part`: which one an image is in.

    `measures` has `image_id` and MEASURES. The ends of the parts are quantiles of validation, those
    of `size` are SIZES; the distance is that of the predictions.

    Raises:
        InputError: `measures` lack an image.
    """
    table = predictions.merge(measures, on="image_id", how="left", validate="one_to_one")
    lost = table.loc[table["width"].isna(), "image_id"]
    if len(lost):
        raise InputError(f"{lost.iloc[0]} is in the predictions but not in the metadata")
    table = table.assign(size=table[["width", "height"]].min(axis=1))
    is_val = (table["split"] == "val").to_numpy()
    of_quantiles = [name for name in MEASURED if name != "size"]
    parts = {name + PART: _part(table[name].to_numpy(np.float64), is_val) for name in of_quantiles}
    parts["size" + PART] = np.array(SIZE_PARTS)[np.digitize(table["size"], SIZES)]
    return table.drop(columns=list(MEASURES)).assign(**parts)


def _part(values: FloatArray, is_val: BoolArray) -> NDArray[Any]:
    inner = np.linspace(0, 1, PARTS + 1)[1:-1]
    # Of a measure with few values (qualities of JPEG) the quantiles may be one.
    ends = np.unique(np.quantile(values[is_val], inner, method="lower"))
    texts = [f"{end:.3g}" for end in ends]
    names = [f"up to {texts[0]}", *(f"{low} to {high}" for low, high in pairwise(texts))]
    return np.array([*names, f"above {texts[-1]}"])[np.digitize(values, ends, right=True)]


def slice_table(test: pd.DataFrame, threshold: float, params: EvaluateParams) -> pd.DataFrame:
    """Return one row per slice and class, first those that the rest of their class beats clearest.

    `test` comes from `with_parts`. Columns: name, by, value, label, images, groups, few, correct
    and its ends (see `results.slices`), difference (from the rest of the class), p (of a rate
    no lower than the rest's), p_adjusted (Holm: of any p among them all). p is NaN where slice
    or rest have a single group.
    """
    test = test.assign(group=pd.factorize(test["group"], sort=True)[0])
    rows = [
        row
        for column in (*NAMED, *(name + PART for name in MEASURED))
        if test[column].nunique() > 1
        for row in _slices_by(test, column, threshold, params)
    ]
    table = pd.DataFrame(rows, columns=_COLUMNS)  # none where no slice has a rest
    table["p_adjusted"] = holm(table["p"].to_numpy(np.float64))
    return table.sort_values(["p", "name"], ignore_index=True)


def _slices_by(
    test: pd.DataFrame, column: str, threshold: float, params: EvaluateParams
) -> Iterator[dict[str, Any]]:
    table = slices(test, [column], threshold, params)
    for label, name in LABELS.items():
        part = test[test["label"] == label]
        correct = (part["score"].to_numpy() >= threshold) == (label == FAKE)
        codes, values = pd.factorize(part[column])
        groups = part["group"].to_numpy()
        for row in table[table["label"] == name].to_dict("records"):
            inside = codes == values.get_loc(row[column])
            if not inside.all():  # the reals are one family: there is no rest to compare with
                yield _row(row, column) | worse_than_rest(correct, inside, groups)


def _row(row: Mapping[Any, Any], column: str) -> dict[str, Any]:
    value, by = str(row[column]) or "(none)", column.removesuffix(PART)
    what = value if by == "method" else f"{by.replace('_', ' ')} {value}"
    rest = {name: row[name] for name in row if name != column}
    return {"name": f"{what}, {row['label']}", "by": by, "value": value, **rest}


def worse_than_rest(correct: BoolArray, inside: BoolArray, groups: IntArray) -> dict[str, float]:
    """Return how much lower the rate of `correct` is inside than outside, and its p.

    `groups` are numbers from 0, shape (n,). p is one-sided and holds for images that depend on
    others of their group, also where a group lies on both sides. Its spread is that of equal
    rates, so that a slice without a single error, or of two groups, does not look certain.

    Source: the generalised score test of Rotnitzky and Jewell 1990, Biometrika 77, section 4, with
    Student's distribution for as many groups as the smaller side has.
    """
    weights = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
    parts = (correct - correct.mean()) * weights
    of_group = np.bincount(groups, parts)
    sides = [np.count_nonzero(np.bincount(groups[side])) for side in (inside, ~inside)]
    difference = float(parts.sum())
    if min(sides) < 2:
        return {"difference": difference, "p": float("nan")}
    count = np.count_nonzero(np.bincount(groups))
    spread = float(np.sqrt(count / (count - 1) * np.einsum("i,i->", of_group, of_group)))
    p = float(stdtr(min(sides) - 1, difference / spread)) if spread else 1.0
    return {"difference": difference, "p": p}


def holm(p: FloatArray) -> FloatArray:
    """Return `p`, shape (n,), adjusted for there being n of them; NaN stays, and does not count.

    Source: Holm 1979, Scandinavian Journal of Statistics 6; it needs no independence.
    """
    order = np.argsort(p)  # NaN comes last
    count = int(np.isfinite(p).sum())
    factors = np.arange(count, 0, -1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order[:count]] = np.minimum(np.maximum.accumulate(factors * p[order[:count]]), 1)
    return adjusted


def size_rates(
    test: pd.DataFrame, threshold: float, params: EvaluateParams
) -> list[dict[Any, Any]]:
    """Return size, label, images, groups, correct of each size and class that there is, rising."""
    table = slices(test, ["size" + PART], threshold, params).rename(columns={"size" + PART: "size"})
    table = table.sort_values("size", key=lambda names: names.map(SIZE_PARTS.index), kind="stable")
    return table[["size", "label", "images", "groups", "correct"]].to_dict("records")


def count_slices(table: pd.DataFrame, level: float) -> dict[str, int]:
    """Return how many slices could be compared, and how many are worse at `level`, adjusted."""
    tested, worse = table["p"].notna(), table["p_adjusted"] < level
    return {"tested": int(tested.sum()), "worse_than_rest": int(worse.sum())}
