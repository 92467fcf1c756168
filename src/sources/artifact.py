"""ArtiFact: 2.5 million images of 8 real sets and 25 generators, one folder a method.

`<method>/metadata.csv` says what each image is. The mirror on the HF hub sorts the methods into
`Real` and `Fake`, which is not to be trusted: `Fake/afhq` holds photographs, `Real/cycle_gan` and
`Fake/pro_gan` both classes.

Source: Rahman et al. 2023, arXiv:2302.11970.
"""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from src.core.cli import InputError
from src.core.tables import FAKE, LABELS, REAL
from src.sources.local.cache import Cache
from src.sources.origins import Origin, Rows
from src.sources.shared.known_methods import IMAGES, METHODS, family_of, licence_of
from src.sources.shared.origin_source import (
    NOT_THERE,
    OriginSource,
    load,
    match_names,
    open_data_set,
)
from src.sources.shared.user_table import read_user_table

logger = logging.getLogger(__name__)

DEFAULT_ORIGIN = "hf://datasets/bitmind/ArtiFact/ArtiFact.zip"
# By name: their order differs. `filename` is left out, base names repeat between folders.
_COLUMNS = {"image_path": pa.string(), "target": pa.int64(), "category": pa.string()}
_METADATA = r"^(?P<root>(?:.*/)?)(?P<method>[^/]+)/metadata\.csv$"
_PART = r"(?:Real|Fake)/$"  # of the root, in the layout of the mirror
# Outside of the data set, or nowhere.
_NO_PATH = r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|^$"
# As Windows and scripts write them: images\a.jpg, ./images//a.jpg, images/./a.jpg.
_SEPARATOR = r"(?:[/\\]+(?:\.[/\\]+)*)"
_CURRENT_FOLDER = r"^\./"


def build(url: str) -> OriginSource:
    """Return ArtiFact, from anywhere in its layout; `url` is empty for its mirror on the HF hub.

    Raises:
        InputError: it is not there, not laid out as expected, or contradicts itself.
    """
    return serve(*open_data_set(url, DEFAULT_ORIGIN))


def is_listed(origin: Origin) -> bool:
    """Return whether a metadata.csv of a method is seen among the members of `origin`."""
    return bool(pc.any(pc.match_substring_regex(origin.names(), _METADATA)).as_py())


def serve(origin: Origin, cache: Cache) -> OriginSource:
    """Return ArtiFact in `origin`; all else is as in `build`."""
    folders = match_names(origin, _METADATA, "<method>/metadata.csv").sort_values("method")
    _check_in_one_place(folders, origin)
    contents = load(cache, origin, folders["member"].to_numpy())
    places = zip(folders["root"], folders["method"], contents, strict=True)
    roots = dict(zip(folders["method"], folders["root"], strict=True))
    listed = pd.concat((_read_method(*place) for place in places), ignore_index=True)
    if METHODS.keys() <= roots.keys():
        _compare_with_published(listed, origin)
    images = _placed(listed, roots, origin)
    licences = {method: licence_of(method) for method in folders["method"]}
    return OriginSource(origin, images, licences, cache)


def _check_in_one_place(found: pd.DataFrame, origin: Origin) -> None:
    tops = found["root"].str.replace(_PART, "", regex=True)
    twice = found["method"].duplicated(keep=False)
    if tops.nunique() > 1 or twice.any():
        folders = tops if tops.nunique() > 1 else (found["root"] + found["method"] + "/")[twice]
        raise InputError(
            f"{origin.url}: metadata.csv below more than one folder: "
            f"{folders_in_words(origin, folders, found['member'][folders.index])}; move what is "
            "too much elsewhere, or set download.origin to one of them"
        )


def folders_in_words(origin: Origin, folders: pd.Series, members: pd.Series) -> str:
    """Return these folders, each once, with the archive that holds its member."""
    archives = origin.archives(members.to_numpy())
    places = sorted(set(zip(folders, archives, strict=True)))
    return ", ".join(
        (top or ".") + (f" of {archive}" if archive else "") for top, archive in places
    )


def _read_method(root: str, method: str, content: bytes) -> pd.DataFrame:
    name = f"{root}{method}/metadata.csv"
    rows = read_user_table(content, name, _COLUMNS)
    rows["image_path"] = (
        rows["image_path"]
        .str.replace(_SEPARATOR, "/", regex=True)
        .str.replace(_CURRENT_FOLDER, "", regex=True)
    )
    wrong = rows["image_path"].str.contains(_NO_PATH)
    if wrong.any():
        path, line = rows.loc[wrong, "image_path"].iloc[0], int(wrong.to_numpy().argmax()) + 2
        raise InputError(f"{name}: image_path {path!r} in line {line} leads out of the data set")
    # Row by row, never by folder: cycle_gan and pro_gan hold both classes. 0 is real, 1 to 6 are
    # kinds of generators.
    if (negative := rows["target"] < REAL).any():
        raise InputError(f"{name}: target {rows.loc[negative, 'target'].iloc[0]} is no class")
    rows = rows.assign(method=method, label=(rows["target"] != REAL).astype("int64"))
    known = METHODS[method].labels if method in METHODS else tuple(LABELS)
    if (contrary := ~rows["label"].isin(known)).any():
        path, target = rows.loc[contrary, ["image_path", "target"]].iloc[0]
        only = " or ".join(LABELS[label] for label in known)
        raise InputError(f"{name}: {path!r} has target {target}, but {method} is known as {only}")
    return _unique(rows.drop(columns="target"), name)


def _compare_with_published(images: pd.DataFrame, origin: Origin) -> None:
    """Log what all methods together have more or less than they should: a sign of wrong labels."""
    for label, published in IMAGES.items():
        if (found := int((images["label"] == label).sum())) != published:
            logger.warning(
                "%s: lists %d %s images, ArtiFact has %d",
                origin.url,
                found,
                LABELS[label],
                published,
            )


def _unique(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    repeated = rows["image_path"].duplicated()
    if not repeated.any():
        return rows
    labels = rows.groupby("image_path")["label"].nunique()
    if labels.max() > 1:
        raise InputError(f"{name}: {labels.idxmax()!r} is listed both as real and as fake")
    logger.warning("%s: %d rows repeat others and are left out", name, repeated.sum())
    return rows[~repeated]


def _placed(images: pd.DataFrame, roots: Mapping[str, str], origin: Origin) -> pd.DataFrame:
    """Return the catalogue, in which each image has found its member; `roots` are of methods."""
    codes, methods = pd.factorize(images["method"])
    image_id = images["method"] + "/" + images["image_path"]

    def below_root(paths: pd.Series) -> pd.Series:
        return images["method"].map(roots) + paths if any(roots.values()) else paths

    member = origin.find(pa.array(below_root(image_id)))
    found = np.bincount(codes, member != NOT_THERE, len(methods))
    # One layout a method: what is listed in the other one is not taken for the same image.
    doubtful = np.flatnonzero((found < np.bincount(codes))[codes])
    if len(doubtful):
        paths = images["image_path"].iloc[doubtful]
        names = below_root(images["image_path"]).iloc[doubtful]
        from_root = origin.find(pa.array(names))
        found_from_root = np.bincount(codes[doubtful], from_root != NOT_THERE, len(methods))
        better = (found_from_root > found)[codes[doubtful]]
        _check_layout(images, methods, np.maximum(found, found_from_root), doubtful[better], origin)
        member[doubtful[better]] = from_root[better]
        image_id.iloc[doubtful[better]] = paths[better]
    fakes_family = np.array([family_of(method, FAKE) for method in methods])[codes]
    return pd.DataFrame(
        {
            "image_id": image_id,
            "method": images["method"],
            "family": pd.Series(fakes_family, dtype="str").mask(images["label"] == REAL, "real"),
            "category": images["category"],
            "label": images["label"],
            "group": image_id,  # nothing says which images show the same thing
            "given_split": "",
            "member": member,
        }
    )


def _check_layout(
    images: pd.DataFrame, methods: pd.Index, found: Rows, from_root: Rows, origin: Origin
) -> None:
    """Raise InputError where a method's images are nowhere, or a path leads into no method."""
    if (nowhere := found == 0).any():
        method = methods[int(nowhere.argmax())]
        path = images.loc[images["method"] == method, "image_path"].iloc[0]
        raise InputError(
            f"{origin.url}: image_path {path!r} of {method} is there neither below the folder of "
            "its metadata.csv nor below the data set's"
        )
    listed = images.iloc[from_root]
    stray = ~listed["image_path"].str.startswith(tuple(f"{method}/" for method in methods))
    if stray.any():
        method, path = listed.loc[stray, ["method", "image_path"]].iloc[0]
        raise InputError(f"{origin.url}: image_path {path!r} of {method} is in no method's folder")
