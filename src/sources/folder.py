"""Images in ArtiFact's layout, or in a plain tree with the folders real and fake, anywhere."""

import logging

import numpy as np
import pandas as pd
from pyarrow import compute as pc

from src.core.cli import InputError
from src.core.tables import LABELS
from src.sources import artifact
from src.sources.local.cache import Cache, default_cache_path
from src.sources.local.paths import IMAGE_SUFFIXES
from src.sources.origins import Origin, open_origin
from src.sources.shared.known_methods import UNKNOWN_LICENCE, family_of
from src.sources.shared.origin_source import OriginSource, match_names

logger = logging.getLogger(__name__)

_LAYOUTS = "<method>/metadata.csv (ArtiFact), or images in folders real and fake"
# The first folder of these names says the class; hidden files are none of the data set's.
_CLASSIFIED = (
    r"(?i)^(?P<root>(?:[^/]+/)*?)(?P<path>(?P<folder>real|fake)/"
    r"(?:(?P<method>[^/]+)/(?:[^/]+/)*)?[^/.][^/]*)$"
)
_SHOWN = 5  # folders in a message


def build(url: str) -> OriginSource:
    """Return the images at `url`, in ArtiFact's layout or in folders that name their class.

    Raises:
        InputError: they are not there, or laid out in neither way.
    """
    cache = Cache(default_cache_path())
    origin = open_origin(url, cache)
    if artifact.is_listed(origin):
        _report_unused(origin)
        return artifact.serve(origin, cache)
    files = match_names(origin, _CLASSIFIED, _expected(origin))
    suffix = files["path"].str.extract(r"(\.[^./]+)$")[0].str.lower()
    images = files[suffix.isin(IMAGE_SUFFIXES)].reset_index(drop=True)
    if len(images) < len(files):
        logger.warning("%s: %d files are no images", origin.url, len(files) - len(images))
    label = images["folder"].str.lower().map({name: label for label, name in LABELS.items()})
    _check_classes(origin, images, label)
    catalogue = _completed(images[["path", "method", "member"]].assign(label=label, given_split=""))
    return OriginSource(origin, catalogue, _licences(catalogue), cache)


def _report_unused(origin: Origin) -> None:
    names = origin.names()
    if names is None:
        return
    is_table = pc.match_substring_regex(names, r"^[^/]+/(?:[^/]+/)?metadata\.csv$")
    listed, found = (
        set(pc.unique(pc.replace_substring_regex(some, r"/.*$", "")).to_pylist())
        for some in (names.filter(is_table), names.filter(pc.match_substring(names, "/")))
    )
    if listed and (bare := sorted(found - listed)):
        logger.warning("%s: not used, without metadata.csv: %s", origin.url, ", ".join(bare))


def _expected(origin: Origin) -> str:
    """Return which layouts are known, and the folders that are there instead."""
    names = origin.names()
    if names is None:
        return _LAYOUTS
    found = sorted(pc.unique(pc.replace_substring_regex(names, r"/?[^/]*$", "")).to_pylist())
    listed = ", ".join(folder or "." for folder in found[:_SHOWN])
    return f"{_LAYOUTS}; its files are in {listed}{', ...' if len(found) > _SHOWN else ''}"


def _check_classes(origin: Origin, images: pd.DataFrame, label: pd.Series) -> None:
    """Raise InputError unless both classes are there, below one folder."""
    for name in (name for number, name in LABELS.items() if not (label == number).any()):
        raise InputError(f"{origin.url}: no image is in a folder {name}: {_expected(origin)}")
    if images["root"].nunique() > 1:
        first = images.drop_duplicates("root")
        places = artifact.folders_in_words(origin, first["root"], first["member"])
        raise InputError(
            f"{origin.url}: folders real and fake are in more than one place: {places}; move what "
            "is too much elsewhere, or set download.origin to one of them"
        )


def _completed(images: pd.DataFrame) -> pd.DataFrame:
    """Return the catalogue from `path`, label and method, which may be empty."""
    # real/1.jpg belongs to the method "real", real/coco/val/1.jpg to "coco".
    method = images["method"].where(images["method"] != "", images["label"].map(LABELS))
    table = images.assign(image_id=method + "/" + images["path"], method=method, category="")
    # Once for each method and class: there may be millions of rows.
    kinds = table.groupby(["method", "label"], sort=False)
    families = [family_of(str(method), label) for method, label in kinds.size().index]
    family = np.array(families, dtype=object)[kinds.ngroup()]
    # Nothing says which of these images show the same thing: each is its own group.
    return table.assign(family=pd.Series(family, table.index, "str"), group=table["image_id"])


def _licences(images: pd.DataFrame) -> dict[str, str]:
    return dict.fromkeys(images["method"].unique(), UNKNOWN_LICENCE)
