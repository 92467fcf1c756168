"""A data set -> data/raw: a seeded subset of its images, in tar shards, and a manifest."""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from src.core.cli import InputError, run
from src.core.files import remove_leftovers, replacing
from src.core.params import STRICT, load_params
from src.core.tables import FAKE, REAL
from src.dataset.raw import ShardLimits, write_raw
from src.sources.shared.combined import Sources
from src.sources.shared.plan import plan_text
from src.sources.shared.registry import build_sources
from src.sources.shared.source import ABSENT
from src.sources.shared.subset import SubsetParams, choose

logger = logging.getLogger(__name__)

_LOGGED = 10  # missing images; the manifest lists all of them


@dataclass(frozen=True, config=STRICT)
class DownloadParams(SubsetParams):
    """Section `download` of params.yaml; `origin` has one element for each of `source`."""

    source: str | tuple[str, ...]
    origin: str | tuple[str, ...]
    real_names: tuple[str, ...]  # of folders, in source `folder`
    fake_names: tuple[str, ...]
    max_missing: Annotated[int, Field(ge=0, le=10**9)]
    shard_images: Annotated[int, Field(gt=0, le=10**6)]
    shard_megabytes: Annotated[int, Field(gt=0, le=2**16)]


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the images that the parameters select into the given directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("raw", type=Path, nargs="?")
    what.add_argument("--plan", action="store_true", help="say what it would fetch, and end")
    args = parser.parse_args(argv)
    quiet_libraries()
    params = load_params(DownloadParams, "download")
    class_names = {REAL: params.real_names, FAKE: params.fake_names}
    sources = Sources(
        build_sources(params.source, params.origin, class_names, download=not args.plan)
    )
    catalogue, licences = sources.catalogue(), sources.licences()
    images = choose(catalogue, licences, params)
    if args.plan:
        plan = sources.plan(images)
        sys.stdout.write(plan_text(catalogue, images, plan, licences, params.max_missing))
    else:
        download(sources, images, params, args.raw)


def quiet_libraries() -> None:
    """Silence what libraries log about a server that does not answer: our errors say it."""
    logging.getLogger("huggingface_hub").propagate = False  # it writes to stderr itself
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # our errors say what its warnings do


def download(sources: Sources, images: pd.DataFrame, params: DownloadParams, root: Path) -> None:
    """Fetch these rows of the catalogue into the directory `root`, which is whole or absent.

    Raises:
        InputError: more than `max_missing` images are missing, or the origin does not answer.
    """
    missing = dict.fromkeys(images.loc[~images["there"], "image_id"], ABSENT)
    if len(missing) <= params.max_missing:  # otherwise nothing is fetched in vain
        missing = sources.prepare(images)
    check_missing(missing, len(images), params.max_missing)
    remove_leftovers(root)
    with replacing(root) as raw:
        present = images[~images["image_id"].isin(missing)]
        limits = ShardLimits(params.shard_images, params.shard_megabytes * 10**6)
        write_raw(raw, images, fetched(sources, present), sources.provenance(), limits, missing)


def check_missing(missing: Mapping[str, str], images: int, limit: int) -> None:
    """Log the first missing images, and why they are.

    Raises:
        InputError: they are more than `limit`.
    """
    for image_id, reason in islice(missing.items(), _LOGGED):
        logger.warning("%s: %s", image_id, reason)
    if len(missing) > _LOGGED:
        logger.warning("and %d more are missing", len(missing) - _LOGGED)
    if len(missing) > limit:
        first, reason = next(iter(missing.items()))
        raise InputError(
            f"{len(missing)} of {images} images are missing, and download.max_missing = {limit}; "
            f"repair the origin, or raise the limit to do without them. First: {first}: {reason}"
        )


def fetched(sources: Sources, images: pd.DataFrame) -> Iterator[bytes]:
    """Yield the encoded images of these rows in their order, and show the progress."""
    bar = tqdm(sources.fetch(images), "write shards", len(images), unit=" images", disable=None)
    for expected, (image_id, content) in zip(images["image_id"], bar, strict=True):
        assert image_id == expected, f"the source yields {image_id}, not {expected}"
        yield content


if __name__ == "__main__":
    run(main)
