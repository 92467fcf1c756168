"""A data set that was not trained on -> a verdict on each image, and what its pixels say."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import PurePosixPath

import pandas as pd
from tqdm import tqdm

from judge.judging import Judge, Verdict
from src.core.cli import InputError
from src.core.hashing import image_keys
from src.dataset.image_stats import Measures, measure
from src.dataset.near_duplicates import merged_groups
from src.download import DownloadParams, check_missing
from src.images.decode import UndecodableImage
from src.metadata import MetadataParams, check_unreadable
from src.sources.shared.combined import Sources
from src.sources.shared.registry import build_sources
from src.sources.shared.source import ABSENT, ClassNames
from src.sources.shared.subset import choose

TEST = "test"  # what the detector's own test images are called among the sets
HASHES = ["image_id", "key", "group", "sha256", "perceptual_hash"]  # that find near-duplicates


def open_sets(
    sources: Sequence[str], origins: Sequence[str], class_names: ClassNames
) -> dict[str, Sources]:
    """Return the data sets at `origins`, by the last part of each; one source is that of all.

    Raises:
        InputError: there are not as many sources, two sets have one name, or one cannot be read.
    """
    if len(sources) not in (1, len(origins)):
        raise InputError(
            f"SOURCE names {len(sources)} sources for {len(origins)} data sets: give one for all, "
            "or one for each"
        )
    found: dict[str, Sources] = {}
    for source, origin in zip(cycle(sources), origins, strict=False):
        name = PurePosixPath(origin.rstrip("/")).name or source
        if name == TEST or name in found:
            raise InputError(
                f"DATA: {name!r} is the name of two sets (the detector's own is {TEST!r}): rename "
                "a folder, or judge them one after the other"
            )
        found[name] = Sources(build_sources(source, origin, class_names, download=True))
    return found


def judge_set(
    name: str,
    sources: Sources,
    judge: Judge,
    download: DownloadParams,
    metadata: MetadataParams,
    batch_size: int,
) -> pd.DataFrame:
    """Return the drawn images of `sources`: their identity, `Measures`, and the judge's verdicts.

    Ids and groups begin with `name`, so that sets do not share them.

    Raises:
        InputError: images are missing or damaged, more of them than the parameters allow.
    """
    images = choose(sources.catalogue(), sources.licences(), download)
    missing = dict.fromkeys(images.loc[~images["there"], "image_id"], ABSENT)
    missing |= sources.prepare(images[images["there"]])
    check_missing(missing, len(images), download.max_missing)
    present = images[~images["image_id"].isin(missing)]
    contents = tqdm(sources.fetch(present), name, len(present), unit=" images", disable=None)
    judged, unreadable = judge_contents(contents, judge, batch_size)
    check_unreadable(unreadable, len(present), metadata.max_unreadable)
    identity = present[["image_id", "method", "family", "category", "label", "group"]]
    table = identity.merge(judged, on="image_id", validate="one_to_one")
    for column in ("image_id", "group"):
        table[column] = f"{name}/" + table[column].astype(str)
    return table.assign(key=image_keys(table["image_id"]), split=name)


def judge_contents(
    contents: Iterable[tuple[str, bytes]], judge: Judge, batch_size: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return image_id, sha256, `Measures` and the fields of `Verdict` of encoded images by name.

    P(fake) is called `score`. The second part says why others cannot be read.
    """
    known: list[tuple[object, ...]] = []
    unreadable: dict[str, str] = {}

    def readable() -> Iterator[bytes]:
        for image_id, data in contents:
            try:
                known.append((image_id, hashlib.sha256(data).hexdigest(), *measure(data)))
            except UndecodableImage as error:
                unreadable[image_id] = str(error)
            else:
                yield data

    verdicts = pd.DataFrame(judge.judge_all(readable(), batch_size), columns=Verdict._fields)
    table = pd.DataFrame(known, columns=["image_id", "sha256", *Measures._fields])
    return table.join(verdicts.rename(columns={"probability": "score"})), unreadable


def without_trained(
    judged: pd.DataFrame, trained: pd.DataFrame, max_distance: int
) -> tuple[pd.DataFrame, int]:
    """Return `judged` without near-duplicates of `trained`, and how many these are.

    Both have HASHES. What is left is grouped by near-duplicates, as the stage `metadata` does it.
    """
    groups = merged_groups(pd.concat([trained, judged])[HASHES], max_distance)
    known, own = groups.iloc[: len(trained)], groups.iloc[len(trained) :]
    is_new = ~own.isin(set(known)).to_numpy()
    return judged.assign(group=own.to_numpy())[is_new].reset_index(drop=True), int((~is_new).sum())
