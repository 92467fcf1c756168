"""A data set -> data/raw: a seeded subset of its images, in tar shards, and a manifest."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from src.command import InputError, run
from src.files import remove_leftovers, replacing
from src.params import STRICT, load_params
from src.ranks import image_keys, ranks
from src.raw import ShardLimits, write_raw
from src.schema import LABELS
from src.sources import BuildSource, Provenance, Source, folder, sample

logger = logging.getLogger(__name__)

SOURCES: Mapping[str, BuildSource] = {"folder": folder.build, "sample": sample.build}


@dataclass(frozen=True, config=STRICT)
class DownloadParams:
    """Section `download` of params.yaml."""

    source: str
    origin: str
    images_per_method: Annotated[int, Field(gt=0)]
    shard_images: Annotated[int, Field(gt=0)]
    shard_megabytes: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0, lt=2**64)]


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the images that the parameters ask for into the directory that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path)
    args = parser.parse_args(argv)
    params = load_params(DownloadParams, "download")
    source = build_source(params.source, params.origin)
    images = draw(source.catalogue(), params.images_per_method, params.seed)
    report_shortfall(images, params.images_per_method)
    remove_leftovers(args.raw)
    with replacing(args.raw) as raw:
        contents = fetched(source, images)
        limits = ShardLimits(params.shard_images, params.shard_megabytes * 10**6)
        write_raw(raw, images, contents, by_method(source.provenance), limits)


def build_source(name: str, origin: str) -> Source:
    """Return the data set `name` of SOURCES, from `origin`.

    Raises:
        InputError: the name is unknown, or the source refuses the origin.
    """
    if name not in SOURCES:
        raise InputError(f"download.source = {name!r} is unknown; choose one of {sorted(SOURCES)}")
    return SOURCES[name](origin)


def draw(catalogue: pd.DataFrame, images_per_method: int, seed: int) -> pd.DataFrame:
    """Return up to `images_per_method` rows of each method and label, drawn by their ranks.

    The draw does not depend on the order of the rows. A method's rows in a smaller draw are its
    first rows in a larger one, so that its shards keep their content when a draw is enlarged.

    Raises:
        InputError: one class has no image at all, or an image is listed twice.
    """
    check_catalogue(catalogue)
    order = ranks(image_keys(catalogue["image_id"]), seed)
    ranked = catalogue.assign(rank=order).sort_values("rank")
    # Place in its own class first: with the rank alone, more images of one class would come
    # between those of the other.
    place = ranked.groupby(["method", "label"]).cumcount()
    drawn = ranked.assign(place=place)[place < images_per_method]
    return drawn.sort_values(["method", "place", "label"], ignore_index=True)


def check_catalogue(catalogue: pd.DataFrame) -> None:
    """Raise InputError where a class is empty or an image is listed twice."""
    for label, name in LABELS.items():
        if not (catalogue["label"] == label).any():
            raise InputError(f"the source has no {name} images; both classes are needed")
    keys = pd.Series(image_keys(catalogue["image_id"]))
    if keys.duplicated().any():
        repeated = catalogue["image_id"].iloc[int(keys.duplicated().argmax())]
        raise InputError(f"the source lists {repeated!r} twice")


def report_shortfall(images: pd.DataFrame, images_per_method: int) -> None:
    """Log the methods and classes that have fewer images than `images_per_method`."""
    counts = images.groupby(["method", "label"], as_index=False).agg(found=("image_id", "size"))
    fewer = counts[counts["found"] < images_per_method]
    if len(fewer):
        columns = zip(fewer["method"], fewer["label"].map(LABELS), fewer["found"], strict=True)
        listed = ", ".join(f"{method} {found} {name}" for method, name, found in columns)
        logger.warning("fewer than images_per_method = %d: %s", images_per_method, listed)


def fetched(source: Source, images: pd.DataFrame) -> Iterator[bytes]:
    """Yield the encoded images of these rows in their order, and show the progress."""
    contents: Iterable[tuple[str, bytes]] = source.fetch(images)
    bar = tqdm(contents, total=len(images), desc="download", unit=" images", disable=None)
    for expected, (image_id, content) in zip(images["image_id"], bar, strict=True):
        assert image_id == expected, f"the source yields {image_id}, not {expected}"
        yield content


def by_method(provenance: Provenance) -> dict[str, tuple[str, str, str]]:
    """Return origin, version and licence of each method, for the manifest."""
    return {
        method: (provenance.origin, provenance.version, licence)
        for method, licence in provenance.licences.items()
    }


if __name__ == "__main__":
    run(main)
