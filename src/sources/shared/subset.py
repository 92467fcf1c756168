"""Which images of a catalogue are used: named parts of it, and of these a seeded, balanced draw."""

import logging
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import IntArray, UInt64Array
from src.core.cli import InputError
from src.core.hashing import image_keys, order_by_part, ranks
from src.core.params import STRICT
from src.core.tables import LABELS, require_both_classes
from src.sources.shared.known_methods import LICENCES

logger = logging.getLogger(__name__)

Names = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class SubsetParams:
    """What section `download` of params.yaml says about which images; null is all of them."""

    methods: Names | None  # and families
    categories: Names | None
    allow_licences: Names | None
    images_per_method: Annotated[int, Field(gt=0, le=10**9)]  # and class
    balance_classes: bool
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def choose(
    catalogue: pd.DataFrame, licences: Mapping[str, str], params: SubsetParams
) -> pd.DataFrame:
    """Return the rows that `params` ask for, by method, label and rank.

    `licences` are those of the methods.

    Raises:
        InputError: a name is unknown, a method in `methods` has a licence that is not
            allowed, a class is empty, or an image is listed twice.
    """
    images = _of_methods(catalogue, params.methods)
    images = _of_licences(images, licences, params)
    if params.categories is not None:
        check_known("categories", params.categories, images["category"].unique())
        images = images[images["category"].isin(params.categories)]
    require_both_classes(
        images["label"], "what download.source, methods, categories and allow_licences leave"
    )
    return draw(images, params)


def check_known(key: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise InputError if parameter `key` of section `download` has a name that is not `known`."""
    for name in names:
        if name not in known:
            raise InputError(f"download.{key}: {name!r} is unknown; choose from {sorted(known)}")


def _of_methods(images: pd.DataFrame, names: Names | None) -> pd.DataFrame:
    if names is None:
        return images
    check_known("methods", names, {*images["method"].unique(), *images["family"].unique()})
    return images[images["method"].isin(names) | images["family"].isin(names)]


def _of_licences(
    images: pd.DataFrame, licences: Mapping[str, str], params: SubsetParams
) -> pd.DataFrame:
    if params.allow_licences is None:
        return images
    _report_foreign(params.allow_licences, set(licences.values()) | LICENCES)
    found = sorted(images["method"].unique())
    excluded = {m: licences[m] for m in found if licences[m] not in params.allow_licences}
    for method in set(params.methods or ()) & excluded.keys():
        raise InputError(
            f"download.methods names {method!r}, but download.allow_licences lacks its licence, "
            f"{licences[method]!r}"
        )
    if excluded:
        listed = ", ".join(f"{method} ({licence})" for method, licence in excluded.items())
        logger.warning("left out, download.allow_licences lacks their licence: %s", listed)
    return images[~images["method"].isin(excluded)]


def _report_foreign(allowed: Names, known: Collection[str]) -> None:
    # No error: a list of what a team may use serves for every data set.
    if foreign := [licence for licence in allowed if licence not in known]:
        logger.warning(
            "download.allow_licences: %s: of no method; there are %s", foreign, sorted(known)
        )


def draw(images: pd.DataFrame, params: SubsetParams) -> pd.DataFrame:
    """Return up to `images_per_method` rows of each method and label, drawn by their ranks.

    The draw does not depend on the order of the rows. What a smaller draw takes of a method and
    label are the first rows that a larger one takes, so that shards keep their content.

    Raises:
        InputError: an image is listed twice.
    """
    # Going through millions of texts is several times faster as Python's own.
    keys = image_keys(images["image_id"].to_numpy(dtype=object))
    _check_listed_once(images, keys)
    parts = images.groupby(["method", "label"])
    order = order_by_part(parts.ngroup().to_numpy(), ranks(keys, params.seed))
    size = parts.size()
    _report_shortfall(size, params.images_per_method)
    counts, quotas = size.to_numpy(), _quotas(size, params).to_numpy()
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn: pd.DataFrame = images.iloc[order[place < np.repeat(quotas, counts)]]
    return drawn.reset_index(drop=True)


def _check_listed_once(images: pd.DataFrame, keys: UInt64Array) -> None:
    repeated = pd.Series(keys).duplicated().to_numpy()
    if repeated.any():
        raise InputError(
            f"the source lists {images['image_id'].iloc[int(repeated.argmax())]!r} twice"
        )


def _quotas(size: pd.Series, params: SubsetParams) -> pd.Series:
    """Return how many to draw of each method and label, of which there are `size`."""
    quota = size.clip(upper=params.images_per_method)
    if not params.balance_classes:
        return quota
    smaller = int(quota.groupby("label").sum().min())
    return quota.groupby("label").transform(lambda of_class: spread(of_class.to_numpy(), smaller))


def spread(available: IntArray, total: int) -> IntArray:
    """Return how many of each to take, `total` together, as equally as `available` allows.

    A larger total takes at least as many of each.
    """
    levels = range(int(available.max()) + 1)
    level = bisect_right(levels, total, key=lambda level: int(available.clip(max=level).sum())) - 1
    taken = available.clip(max=level)
    taken[np.flatnonzero(available > level)[: total - int(taken.sum())]] += 1
    return taken


def _report_shortfall(size: pd.Series, wanted: int) -> None:
    fewer = size[size < wanted].reset_index(name="found")
    if len(fewer):
        columns = zip(fewer["method"], fewer["label"].map(LABELS), fewer["found"], strict=True)
        listed = ", ".join(f"{method} {found} {name}" for method, name, found in columns)
        logger.warning("fewer than images_per_method = %d: %s", wanted, listed)
