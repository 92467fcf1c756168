"""A directory of images: in ArtiFact's layout, or a plain tree with the folders real and fake."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.command import InputError
from src.schema import LABELS
from src.sources import Plan, Provenance, Source, artifact
from src.sources.methods import UNKNOWN_LICENCE, family_of
from src.sources.origins.stores import public_url

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
_TABLES = ("*/metadata.csv", "*/*/metadata.csv")
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


def build(origin: str) -> Source:
    """Return the directory `origin` as a source.

    Raises:
        InputError: there is no such directory, it is laid out in neither way, or a name in it is
            not UTF-8.
    """
    root = Path(origin).expanduser()
    if not origin or not root.is_dir():
        raise InputError(f"download.origin = {public_url(origin)!r}: no such directory")
    if listed := _listed(root):
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        if bare := [name for name in folders if name not in listed]:
            logger.warning("%s: not used, without metadata.csv: %s", root, ", ".join(bare))
        return artifact.build(str(root))
    if not all((root / name).is_dir() for name in LABELS.values()):
        raise InputError(
            f"download.origin = {origin!r}: neither <method>/metadata.csv (ArtiFact) nor the "
            f"folders {' and '.join(LABELS.values())} are in it"
        )
    images = _read_tree(root)
    licences = dict.fromkeys(images["method"].unique(), UNKNOWN_LICENCE)
    # The base name alone: outputs must not depend on where somebody keeps the directory.
    return Folder(root, images, Provenance(root.resolve().name, "local", licences))


def _listed(root: Path) -> set[str]:
    """Return the folders in `root` that are methods of ArtiFact, or hold methods."""
    tables = [table for pattern in _TABLES for table in root.glob(pattern)]
    return {table.relative_to(root).parts[0] for table in tables}


def _read_tree(root: Path) -> pd.DataFrame:
    rows = []
    for label, name in LABELS.items():
        for file in _images_below(root / name):
            path = file.relative_to(root)
            _check_encoding(path)
            # real/1.jpg belongs to the method "real", real/coco/val/1.jpg to "coco".
            method = path.parts[1] if len(path.parts) > 2 else name
            rows.append((f"{method}/{path.as_posix()}", method, "", label, path.as_posix()))
    return _completed(
        pd.DataFrame(rows, columns=["image_id", "method", "category", "label", "path"])
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


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    # Once for each method and class: there may be millions of rows.
    kinds = table.groupby(["method", "label"], sort=False)
    families = [family_of(str(method), label) for method, label in kinds.size().index]
    family = np.array(families, dtype=object)[kinds.ngroup()]
    # Nothing says which of these images show the same thing: each is its own group.
    return table.assign(family=pd.Series(family, table.index, "str"), group=table["image_id"])
