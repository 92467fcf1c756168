"""data/raw -> data/metadata.csv: each image decoded once, described, grouped with duplicates.

Images that do not decode are left out, and the metrics name them. The same bytes listed both as
real and as fake stop the stage.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.cli import InputError, parse_paths, run
from src.core.files import write_json
from src.core.hashing import count_distinct, group_keys, image_keys
from src.core.params import STRICT, load_params
from src.core.tables import FAKE, LABELS, REAL, compact, write_parquet, write_table
from src.dataset.columns import METADATA
from src.dataset.image_stats import Measures, measure
from src.dataset.near_duplicates import content_keys, merged_groups
from src.dataset.parallel import map_images
from src.dataset.raw import read_index
from src.dataset.sampling import SAMPLING, representative_keys
from src.images.decode import UndecodableImage
from src.images.shards import ShardReader

ARGUMENTS = "raw metadata_csv metadata_parquet metrics_json"
logger = logging.getLogger(__name__)

_LISTED = 5  # images that an error names
_PARTS_AT_ONCE = 256  # of measures


@dataclass(frozen=True, config=STRICT)
class MetadataParams:
    """Section `metadata` of params.yaml."""

    max_unreadable: Annotated[int, Field(ge=0, le=10**9)]
    max_contradictions: Annotated[int, Field(ge=0, le=10**9)]
    max_hash_distance: Annotated[int, Field(ge=0, le=8)]  # beyond, different faces match


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(MetadataParams, "metadata")
    index = read_index(args.raw)
    metadata, unreadable = measure_images(index, ShardReader(args.raw))
    check_unreadable(unreadable, len(index), params.max_unreadable)
    del index  # of millions of rows; below, one column takes the place of another
    metadata["key"] = image_keys(metadata["image_id"])
    contradictions = find_contradictions(metadata)
    check_contradictions(contradictions, params.max_contradictions)
    given_groups = count_distinct(group_keys(metadata))
    metadata["group"] = merged_groups(metadata, params.max_hash_distance)
    metrics = summary(metadata, given_groups, unreadable, contradictions)
    write_table(metadata, args.metadata_csv, METADATA)
    metadata["group_key"] = representative_keys(metadata)
    write_parquet(metadata, args.metadata_parquet, SAMPLING)
    write_json(metrics, args.metrics_json)


def measure_images(index: pd.DataFrame, reader: ShardReader) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the readable rows of `index` with their measures, and why each other is unreadable.

    Raises:
        InputError: the bytes of an image are not those that its sha256 in `index` is of.
    """
    columns = ["image_id", "shard", "offset", "length", "sha256"]
    parts = map_images(partial(_measure_rows, reader), index[columns], "metadata")
    measures, unreadable = [], {}
    # Joined as they come: thousands of small tables would take several times as much memory.
    while some := list(islice(parts, _PARTS_AT_ONCE)):
        measures.append(compact(pd.concat([measured for measured, _ in some])))
        unreadable.update({name: why for _, reasons in some for name, why in reasons.items()})
    measured = pd.concat(measures)
    readable = index.loc[measured.index] if unreadable else index  # nothing to copy, mostly
    return readable.assign(**measured), unreadable


def _measure_rows(reader: ShardReader, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    places, measures, unreadable = [], [], {}
    for place, row in zip(rows.index, rows.to_numpy(), strict=True):
        image_id, shard, offset, length, sha256 = row
        data = reader.read(shard, offset, length)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InputError(
                f"{shard}: the bytes of {image_id} are not those that its index describes "
                f"(sha256 is not {sha256}); run the download stage again"
            )
        try:
            measures.append(measure(data))
            places.append(place)
        except UndecodableImage as error:
            unreadable[image_id] = str(error)
    return pd.DataFrame(measures, index=places, columns=list(Measures._fields)), unreadable


def check_unreadable(unreadable: Mapping[str, str], images: int, limit: int) -> None:
    """Raise if too many of `images` do not decode.

    Raises:
        InputError: more than `limit`, or all; the message names the first and why.
    """
    if len(unreadable) <= limit and len(unreadable) < images:
        return
    raise InputError(
        f"{len(unreadable)} of {images} images do not decode, and metadata.max_unreadable = "
        f"{limit}; repair or remove them, or raise the limit to leave them out. First: "
        + "; ".join(f"{name} ({reason})" for name, reason in _first(unreadable).items())
    )


def find_contradictions(metadata: pd.DataFrame) -> dict[str, str]:
    """Return fake images whose bytes are listed as real as well, each with such a real image.

    One pair for each content, however often it occurs.
    """
    columns = ["image_id", "label", "sha256"]
    repeated = pd.Series(content_keys(metadata)).duplicated(keep=False).to_numpy()
    first = metadata.loc[repeated, columns].sort_values("image_id")
    first = first.drop_duplicates(["sha256", "label"])
    pairs = first.pivot(index="sha256", columns="label", values="image_id")
    both = pairs.reindex(columns=[FAKE, REAL]).dropna()
    return dict(sorted(zip(both[FAKE], both[REAL], strict=True)))


def check_contradictions(contradictions: Mapping[str, str], limit: int) -> None:
    """Raise if the same bytes are real and fake too often, otherwise log them.

    Raises:
        InputError: more than `limit`; the message names the first.
    """
    if not contradictions:
        return
    pairs = "; ".join(f"{fake} = {real}" for fake, real in _first(contradictions).items())
    message = (
        f"{len(contradictions)} images listed both as fake and as real, byte for byte: {pairs}"
    )
    if len(contradictions) > limit:
        raise InputError(
            f"{message}; metadata.max_contradictions = {limit}: remove the copy with the wrong "
            "label, or raise the limit to train on both labels"
        )
    logger.warning("%s", message)


def _first(reasons: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(reasons.items())[:_LISTED])


def summary(
    metadata: pd.DataFrame,
    given_groups: int,
    unreadable: Mapping[str, str],
    contradictions: Mapping[str, str],
) -> dict[str, Any]:
    """Return the metrics: what there is, what is unreadable, contradictory or a duplicate.

    There were `given_groups` before duplicates were merged.
    """
    _, sizes = np.unique(group_keys(metadata), return_counts=True)
    return {
        "images": len(metadata),
        "by_label": _by_label(metadata["label"]),
        "by_family": metadata["family"].value_counts().to_dict(),
        "by_method": {
            str(method): _by_label(labels)
            for method, labels in metadata["label"].groupby(metadata["method"])
        },
        "unreadable": {"count": len(unreadable), "reasons": dict(unreadable)},
        "contradictions": {"count": len(contradictions), "first": _first(contradictions)},
        "groups": {
            "count": len(sizes),
            "largest": int(sizes.max()),
            "merged_by_duplicates": given_groups - len(sizes),
            "exact_copies": len(metadata) - count_distinct(content_keys(metadata)),
            "without_hash": int((metadata["perceptual_hash"] == "").sum()),
        },
    }


def _by_label(labels: pd.Series) -> dict[str, int]:
    found, counts = np.unique(labels, return_counts=True)
    return {LABELS[label]: int(count) for label, count in zip(found, counts, strict=True)}


if __name__ == "__main__":
    run(main)
