"""A balanced draw: which images go to train, val and test, and which are left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from src.core.arrays import IntArray
from src.core.cli import InputError
from src.core.hashing import ranks
from src.core.tables import FAKE, HOLDOUT, LABELS, REAL, SPLITS, read_parquet
from src.dataset.sampling import COPIED, STRATUM, Images, rows_of_each
from src.splitting.assignment import ASSIGNED, SplitParams, assign_splits
from src.splitting.quotas import apportion, fill, webster_sequence


def draw(images: Images, params: SplitParams) -> IntArray:
    """Return the split that each image is drawn for: which of ASSIGNED, mostly the first: none.

    Raises:
        InputError: the fractions leave no room, a class is empty, the classes have no category in
            common, or there are fewer images than `images_per_class` needs.
    """
    rank = ranks(images.key, params.seed)
    split = assign_splits(images, rank, params)
    if not params.match_categories:
        strata = images.strata.assign(category="")
        stratum = strata.groupby(STRATUM, sort=False).ngroup().to_numpy()[images.stratum]
        images = replace(images, strata=strata.drop_duplicates(), stratum=stratum)
    counts = count_images(images, split)
    result = np.zeros_like(split)
    parts = rows_of_each(images.stratum * len(ASSIGNED) + split, len(counts))
    for rows, quota in zip(parts, _quotas(counts, params), strict=True):
        if quota < len(rows):
            rows = rows[np.argpartition(rank[rows], quota)[:quota]]
        result[rows] = split[rows]
    return result


def count_images(images: Images, split: IntArray) -> pd.DataFrame:
    """Return how many `images` of each stratum, in its order, there are in each of ASSIGNED."""
    counts = images.strata.merge(pd.DataFrame({"split": ASSIGNED}), how="cross")
    code = images.stratum * len(ASSIGNED) + split
    return counts.assign(images=np.bincount(code, minlength=len(counts)))


def read_drawn(metadata_parquet: Path, split: IntArray) -> pd.DataFrame:
    """Return data/splits.csv: the rows of the file that are drawn, in the order of `image_id`."""
    is_drawn = split > 0
    rows = read_parquet(metadata_parquet, COPIED, is_drawn)
    return split_table(rows, split[is_drawn])


def split_table(rows: pd.DataFrame, split: IntArray) -> pd.DataFrame:
    """Return `rows` with the name of the `split` of each, in the order of `image_id`."""
    names = np.array(ASSIGNED, object)[split]
    return rows.assign(split=names).sort_values("image_id", ignore_index=True)


def _quotas(counts: pd.DataFrame, params: SplitParams) -> IntArray:
    """Return how many images to draw of each row of `counts`."""
    limits = _limits(counts[counts["split"].isin(SPLITS) & (counts["images"] > 0)])
    sizes = _split_sizes(counts, limits.groupby("split").sum(), params)
    quotas = counts["images"].where(counts["split"] == HOLDOUT, 0)
    for split, size in sizes.items():
        of_split = limits[split]
        categories = np.array(of_split.index)[webster_sequence(of_split.tolist(), size)].tolist()
        is_usable = (counts["split"] == split) & counts["category"].isin(of_split.index)
        for label in LABELS:
            usable = counts[is_usable & (counts["label"] == label)]
            of_method = zip(usable["method"], usable["category"], strict=True)
            available = dict(zip(of_method, usable["images"].tolist(), strict=True))
            quotas[usable.index] = list(fill(categories, available).values())
    return quotas.to_numpy()


def _limits(counts: pd.DataFrame) -> pd.Series:
    """Return, by split and category, as many as the class that has fewer of it.

    Raises:
        InputError: a class has no image, or the classes no category in common.
    """
    found = {label: set(counts.loc[counts["label"] == label, "category"]) for label in LABELS}
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
    matching = counts[counts["category"].isin(common)]
    by_class = matching.pivot_table("images", ["split", "category"], "label", "sum", fill_value=0)
    return by_class.min(axis=1)


def _split_sizes(counts: pd.DataFrame, room: pd.Series, params: SplitParams) -> dict[str, int]:
    """Return the images of each class in each split, which has `room` for so many.

    Raises:
        InputError: a split gets none, or has fewer than its share.
    """
    space = room.reindex(SPLITS, fill_value=0).to_numpy()
    val, test = params.val_fraction, params.test_fraction
    weights = (1 - val - test, val, test)
    wanted = params.images_per_class
    sizes = apportion(weights, wanted or 0)
    if not wanted or not sizes.all() or (sizes > space).any():
        # Row n - 1: how n images of each class are shared out.
        receiver = webster_sequence(weights, space.sum() + 1)
        shares = np.cumsum(receiver[:, None] == np.arange(len(SPLITS)), axis=0)
        most = np.count_nonzero((shares <= space).all(axis=1))
        least = np.count_nonzero(~shares.all(axis=1)) + 1
        if wanted or least > most:
            raise InputError(_too_few(counts, space, sizes, int(least), int(most), params))
        sizes = shares[most - 1]
    return dict(zip(SPLITS, sizes.tolist(), strict=True))


def _too_few(
    counts: pd.DataFrame,
    space: IntArray,
    sizes: IntArray,
    least: int,
    most: int,
    params: SplitParams,
) -> str:
    """Return why `sizes` do not work, where `least` to `most` images of each class would."""
    if least > most:
        has = ", ".join(f"{split} {n}" for split, n in zip(SPLITS, space, strict=True))
        return (
            f"too few images: there are, of each class in categories that match, {has}, and it "
            f"takes {least} of each class to give every split its share; download more"
            + (", or set split.match_categories: false" if params.match_categories else "")
            + (", or split.honour_given_split: false" if params.honour_given_split else "")
        )
    wanted = f"split.images_per_class = {sizes.sum()}"
    if not sizes.all():
        none = SPLITS[sizes.argmin()]
        return f"{wanted}: the share of {none} rounds to 0; set it to {least} to {most}"
    short = int(np.argmax(sizes > space))
    found = counts[(counts["split"] == SPLITS[short]) & (counts["images"] > 0)]
    methods = found.groupby(["label", "method"], as_index=False)["images"].sum()
    rows = zip(methods["label"].map(LABELS), methods["method"], methods["images"], strict=True)
    return (
        f"{wanted}: {SPLITS[short]} needs {sizes[short]} images of each class and has "
        f"{space[short]} in categories that match (all it has: "
        + ", ".join(f"{label} {method} {number}" for label, method, number in rows)
        + f"); set it to at most {most}, download more, or set split.match_categories: false"
    )
