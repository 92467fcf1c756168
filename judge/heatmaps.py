"""Heat-maps of images, as PNG files in a folder."""

import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from judge.files import Unreadable
from judge.judging import Judge
from judge.output import shown
from src.core.cli import InputError
from src.core.files import replacing
from src.images.decode import UndecodableImage

logger = logging.getLogger(__name__)

# Of a heat-map's name: file systems take 255, less what `replacing` adds to it.
_NAME_BYTES = 200


def make_folder(folder: Path) -> None:
    """Make the folder of the heat-maps.

    Raises:
        InputError: something else has its name, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--heatmap {folder}: no folder can be made there: {error.strerror}; name another"
        ) from error


def write_heatmaps(
    judge: Judge,
    images: Sequence[tuple[int, Path | Unreadable]],
    folder: Path,
    cells: int,
    quiet: bool,
) -> int:
    """Write a heat-map of each image to `folder`, named after its number and its file.

    Return how many images, named in the log, cannot be read any more.

    Raises:
        OSError: a heat-map cannot be written (a full disk).
    """
    missed = 0
    for number, path in tqdm(images, desc="heat-maps", disable=True if quiet else None):
        assert isinstance(path, Path)
        try:
            picture = judge.heatmap(path, cells)
        except UndecodableImage as error:
            logger.warning("%s: no heat-map: %s", shown(str(path)), shown(str(error)))
            missed += 1
            continue
        # Encoded first: Pillow's own writing reports a full disk as "encoder error -2".
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        with replacing(folder / _picture_name(number, path.stem)) as temporary:
            temporary.write_bytes(encoded.getvalue())
    return missed


def _picture_name(number: int, stem: str) -> str:
    # By characters, not bytes: half of one would be no text.
    while len(os.fsencode(name := f"{number:05d}_{stem}.png")) > _NAME_BYTES:
        stem = stem[:-1]
    return name
