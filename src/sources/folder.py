"""Images in ArtiFact's layout, or in a plain tree with the folders real and fake, anywhere."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import compute as pc

from src.core.cli import InputError
from src.core.tables import LABELS
from src.sources import artifact
from src.sources.origins import Origin, open_origin
from src.sources.origins.cache import Cache, default_cache_path
from src.sources.shared.known_methods import UNKNOWN_LICENCE, family_of
from src.sources.shared.origin_source import OriginSource, match_names
from src.sources.shared.source import Plan, Provenance, Source

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
_TABLES = ("*/metadata.csv", "*/*/metadata.csv")
_LAYOUTS = "<method>/metadata.csv (ArtiFact), or images in folders real and fake"
# The first folder of these names says the class; hidden files are none of the data set's.
_CLASSIFIED = (
    r"(?i)^(?P<root>(?:[^/]+/)*?)(?P<path>(?P<folder>real|fake)/"
    r"(?:(?P<method>[^/]+)/(?:[^/]+/)*)?[^/.][^/]*)$"
)
_SHOWN = 5  # folders in a message
# Files in flight: enough to keep a slow disk busy, few enough to hold in memory.
_READ_AHEAD = 256


@dataclass(frozen=True)
class Folder:
    """The images below `root`."""

    root: Path
    images: pd.DataFrame
    provenance: Provenance

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image; `path` is where it lies below the root."""
        return self.images

    def plan(self, images: pd.DataFrame) -> Plan:
        """Return how much is read; nothing of it needs fetching."""
        sizes = [_size(self.root / path) for path in images["path"]]
        kept = np.zeros(len(sizes), dtype=bool)
        return Plan(kept, np.array(sizes, dtype=np.int64), sum(sizes), len(sizes), seconds=0)

    def prepare(self, images: pd.DataFrame) -> dict[str, str]:
        """Return which of these files are not there."""
        named = zip(images["image_id"], images["path"], strict=True)
        reason = f"not below {self.root} any more"
        return {image_id: reason for image_id, path in named if not (self.root / path).is_file()}

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, encoded image)` for each of these rows, in their order."""
        files = [self.root / path for path in images["path"]]
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(files), _READ_AHEAD):
                part = slice(start, start + _READ_AHEAD)
                contents = pool.map(Path.read_bytes, files[part])
                yield from zip(images["image_id"].iloc[part], contents, strict=True)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def build(url: str) -> Source:
    """Return the images at `url`, in ArtiFact's layout or in folders that name their class.

    Raises:
        InputError: they are not there, laid out in neither way, or a name is not UTF-8.
    """
    root = Path(url).expanduser()
    is_directory = url and "://" not in url and root.is_dir()
    return (_directory(root) if is_directory else None) or _in_origin(url)


def _directory(root: Path) -> Source | None:
    """Return the files in `root`, behind links too; None: not both classes are there."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    if listed := _listed(root):
        if bare := [name for name in folders if name not in listed and name[0] != "."]:
            logger.warning("%s: not used, without metadata.csv: %s", root, ", ".join(bare))
        return artifact.build(str(root))
    classes = {label: [f for f in folders if f.lower() == name] for label, name in LABELS.items()}
    images = _read_tree(root, classes)
    if images["label"].nunique() < len(LABELS):
        return None  # or in archives there, which every origin unpacks
    # The base name alone: outputs must not depend on where somebody keeps the directory.
    return Folder(root, images, Provenance(root.resolve().name, "local", _licences(images)))


def _listed(root: Path) -> set[str]:
    """Return the folders in `root` that are methods of ArtiFact, or hold methods."""
    tables = [table for pattern in _TABLES for table in root.glob(pattern)]
    return {table.relative_to(root).parts[0] for table in tables}


def _read_tree(root: Path, classes: Mapping[int, Sequence[str]]) -> pd.DataFrame:
    rows = []
    for label, folders in classes.items():
        for file in (file for folder in folders for file in _images_below(root / folder)):
            path = file.relative_to(root)
            _check_encoding(path)
            method = path.parts[1] if len(path.parts) > 2 else ""
            rows.append((path.as_posix(), method, label))
    return _completed(pd.DataFrame(rows, columns=["path", "method", "label"]))


def _in_origin(url: str) -> OriginSource:
    cache = Cache(default_cache_path())
    origin = open_origin(url, cache)
    if artifact.is_listed(origin):
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


def _check_encoding(path: Path) -> None:
    # Names of other encodings hold surrogates here, which no table or manifest can.
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise InputError(
            f"{shown}: this name is not UTF-8; rename the file or folder, or all of them at once: "
            "convmv -r -f latin1 -t utf8 --notest FOLDER"
        ) from error


def _images_below(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for directory, children, names in os.walk(folder, followlinks=True):
        if (place := Path(directory).resolve()) in seen:
            children.clear()  # a link to a folder above it, or a second one to the same folder
            continue
        seen.add(place)
        children.sort()
        files = [Path(directory, name) for name in sorted(names) if name[0] != "."]
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        if len(images) < len(files):
            logger.warning("%s: %d files are no images", directory, len(files) - len(images))
        yield from images


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
