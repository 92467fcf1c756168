"""Images in ArtiFact's layout, or in a plain tree whose folders name the class, anywhere.

A plain tree has a folder for each class, with a folder a method in it or none. A folder `train`,
`val` or `test` above or below the class is the given split. Where each of several folders holds
both classes (`biggan/0_real`, `biggan/1_fake`), they are methods, and what they contain categories.
"""

import logging
import posixpath
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pyarrow import compute as pc

from src.core.cli import InputError
from src.core.tables import FAKE, LABELS, REAL
from src.sources import artifact
from src.sources.local.paths import IMAGE_SUFFIXES
from src.sources.origins import Origin
from src.sources.shared import imagefolder
from src.sources.shared.known_methods import UNKNOWN_LICENCE, family_of
from src.sources.shared.origin_source import OriginSource, match_names, open_data_set
from src.sources.shared.source import ClassNames

logger = logging.getLogger(__name__)

# Those of params.yaml: how the field's data sets call them.
CLASS_NAMES: ClassNames = {
    REAL: ("real", "reals", "0_real", "nature"),
    FAKE: ("fake", "fakes", "1_fake", "ai"),
}
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SHOWN = 5  # folders in a message


def build(url: str, class_names: ClassNames = CLASS_NAMES) -> OriginSource:
    """Return the images at `url`, in ArtiFact's layout or in folders that name their class.

    Raises:
        InputError: they are not there, or laid out in neither way.
    """
    origin, cache = open_data_set(url)
    labels = {name.lower(): label for label, names in class_names.items() for name in names}
    tables = imagefolder.find_tables(origin, cache)
    if imagefolder.has_labels(tables):
        images = imagefolder.labelled_images(origin, tables, labels)
        images["top"], images["given_split"], images["method"] = "", images["path"].map(_split), ""
    elif not tables and artifact.is_listed(origin):
        _report_unused(origin)
        return artifact.serve(origin, cache)
    else:
        images = _in_class_folders(origin, labels)
    _check_classes(origin, images, labels)
    _report_classes(origin, images)
    images = _completed(images)
    licences = dict.fromkeys(images["method"].unique(), UNKNOWN_LICENCE)
    return OriginSource(origin, images, licences, cache)


def _report_unused(origin: Origin) -> None:
    names = origin.names()
    is_table = pc.match_substring_regex(names, r"^[^/]+/(?:[^/]+/)?metadata\.csv$")
    listed, found = (
        set(pc.unique(pc.replace_substring_regex(some, r"/.*$", "")).to_pylist())
        for some in (names.filter(is_table), names.filter(pc.match_substring(names, "/")))
    )
    if listed and (bare := sorted(found - listed)):
        logger.warning("%s: not used, without metadata.csv: %s", origin.url, ", ".join(bare))


def _in_class_folders(origin: Origin, labels: Mapping[str, int]) -> pd.DataFrame:
    """Return `root`, `top` (without the split), `path`, `folder`, `label`, `method`, `member`..."""
    pattern = (
        rf"(?i)^(?P<root>(?:[^/]+/)*?)(?P<below>(?P<folder>{'|'.join(map(re.escape, labels))})/"
        rf"(?:(?P<split>{'|'.join(_SPLITS)})/)?(?:(?P<method>[^/]+)/(?:[^/]+/)*)?[^/]+)$"
    )
    files = match_names(origin, pattern, _expected(origin, labels))
    suffix = files["below"].str.extract(r"(\.[^./]+)$")[0].str.lower()
    images = files[suffix.isin(IMAGE_SUFFIXES)].reset_index(drop=True)
    if len(images) < len(files):
        other = suffix[~suffix.isin(IMAGE_SUFFIXES)].fillna("no suffix").value_counts()
        logger.warning(
            "%s: %d files are no images by their names (%s%s): left out; give images a suffix",
            *(origin.url, other.sum(), ", ".join(f"{n} {k}" for n, k in other[:_SHOWN].items())),
            ", ..." if len(other) > _SHOWN else "",
        )
    roots = images["root"].unique()
    tops = {root: _without_split(root) for root in roots}
    common = _common_folder([*roots, *tops.values()])
    above = images["root"].map(_split)
    below = images["split"].fillna("").str.lower().map({**_SPLITS, "": ""})
    return images.assign(
        top=images["root"].map(tops),
        path=images["root"].str.slice(len(common)) + images["below"],
        folder=images["folder"].str.lower(),
        label=images["folder"].str.lower().map(labels),
        given_split=above.mask(above == "", below),
    )


def _split(path: str) -> str:
    """Return the split that a folder in `path` names, the last of them, "" for none."""
    folders = posixpath.dirname(path).lower().split("/")
    return next((_SPLITS[folder] for folder in reversed(folders) if folder in _SPLITS), "")


def _without_split(root: str) -> str:
    folders = [folder for folder in root.split("/") if folder.lower() not in _SPLITS]
    return "/".join(folders)


def _common_folder(folders: Sequence[str]) -> str:
    """Return the folder, with a slash at its end, that all these are in or are; "" for none."""
    common = posixpath.commonpath([f"/{folder}" for folder in folders])[1:]
    return f"{common}/" if common else ""


def _expected(origin: Origin, labels: Mapping[str, int]) -> str:
    """Return which layouts are known, and the folders that are there instead."""
    classes = " and ".join(
        " | ".join(name for name, label in labels.items() if label == which) for which in LABELS
    )
    layouts = (
        "<method>/metadata.csv (ArtiFact), metadata.csv with file_name and label (imagefolder), or "
        f"images in folders {classes}"
    )
    names = origin.names()
    found = sorted(pc.unique(pc.replace_substring_regex(names, r"/?[^/]*$", "")).to_pylist())
    listed = ", ".join(folder or "." for folder in found[:_SHOWN])
    return (
        f"{layouts}; its files are in {listed}{', ...' if len(found) > _SHOWN else ''}; other "
        "names go into download.real_names and fake_names"
    )


def _check_classes(origin: Origin, images: pd.DataFrame, labels: Mapping[str, int]) -> None:
    """Raise InputError unless both classes are there, below one folder or below each of several."""
    for name in (name for label, name in LABELS.items() if not (images["label"] == label).any()):
        raise InputError(
            f"{origin.url}: no image is in a folder {name}: {_expected(origin, labels)}"
        )
    tops = images.groupby("top")["label"].nunique()
    nested = any(a != b and b.startswith(a) for a in tops.index for b in tops.index)
    if len(tops) > 1 and (nested or tops.min() < len(LABELS)):
        first = images.drop_duplicates("top")
        places = artifact.folders_in_words(origin, first["top"], first["member"])
        raise InputError(
            f"{origin.url}: the folders of the classes are in more than one place: {places}; move "
            "what is too much elsewhere, or set download.origin to one of them"
        )


def _report_classes(origin: Origin, images: pd.DataFrame) -> None:
    """Log which folders are taken for which class and split."""
    counts = images.groupby(["folder", "label", "given_split"], as_index=False).size()
    columns = zip(*(counts[name].to_list() for name in counts), strict=True)
    taken = ", ".join(
        f"{folder} is {LABELS[label]}{split and f' ({split})'}: {count:,} images"
        for folder, label, split, count in columns
    )
    logger.info("%s: %s", origin.url, taken)


def _completed(images: pd.DataFrame) -> pd.DataFrame:
    """Return the catalogue from `top`, `path`, `label` and `method`, which may be empty."""
    # real/1.jpg belongs to the method "real", real/coco/val/1.jpg to "coco".
    method, category = images["method"].fillna(""), pd.Series("", images.index)
    if images["top"].nunique() > 1:  # progan/car/0_real/1.jpg: the method progan, the category car
        common = _common_folder(list(images["top"].unique()))
        parts = images["top"].str.slice(len(common)).str.rstrip("/").str.partition("/")
        method, category = parts[0], parts[2]
    method = method.where(method != "", images["label"].map(LABELS))
    columns = ["path", "label", "given_split", "member"]
    table = images[columns].assign(
        image_id=method + "/" + images["path"], method=method, category=category
    )
    # Once for each method and class: there may be millions of rows.
    strata = table.groupby(["method", "label"], sort=False)
    families = [family_of(str(method), label) for method, label in strata.size().index]
    family = np.array(families, dtype=object)[strata.ngroup()]
    # Nothing says which of these images show the same thing: each is its own group.
    return table.assign(family=pd.Series(family, table.index, "str"), group=table["image_id"])
