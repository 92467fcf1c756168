"""data/raw -> data/metadata.csv: every image decoded once, described, and grouped with its copies.

Images that do not decode are left out and named in metrics/metadata.json.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.catalogue import write_catalogue
from src.command import InputError, run
from src.decode import UndecodableImage
from src.duplicates import merged_groups
from src.files import write_json
from src.measures import Measures, measure
from src.parallel import map_images
from src.params import STRICT, load_params
from src.ranks import image_keys
from src.raw import read_index
from src.schema import LABELS, METADATA, write_table
from src.shards import ShardReader

_LISTED = 5  # unreadable images that an error names


@dataclass(frozen=True, config=STRICT)
class MetadataParams:
    """Section `metadata` of params.yaml."""

    max_unreadable: Annotated[int, Field(ge=0)]
    max_hash_distance: Annotated[int, Field(ge=0, le=8)]  # beyond, different faces match


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("raw", "metadata_csv", "metadata_arrow", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(MetadataParams, "metadata")
    index = read_index(args.raw)
    measured, unreadable = measure_images(index, ShardReader(args.raw))
    check_unreadable(unreadable, len(index), params.max_unreadable)
    given_groups = measured["group"].nunique()
    metadata = measured.assign(
        key=image_keys(measured["image_id"]),
        group=merged_groups(measured, params.max_hash_distance),
    )
    del index, measured  # millions of rows
    write_table(metadata, args.metadata_csv, METADATA)
    write_catalogue(metadata, args.metadata_arrow)
    write_json(summary(metadata, given_groups, unreadable), args.metrics_json)


def measure_images(index: pd.DataFrame, reader: ShardReader) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the readable rows of `index` with their measures, and why each other is unreadable.

    Raises:
        InputError: the bytes of an image are not those that its sha256 in `index` is of.
    """
    columns = ["image_id", "shard", "offset", "length", "sha256"]
    parts = list(map_images(partial(_measure_rows, reader), index[columns], "metadata"))
    measures = pd.concat([measures for measures, _ in parts])
    unreadable = {name: reason for _, reasons in parts for name, reason in reasons.items()}
    readable = index.loc[measures.index] if unreadable else index  # nothing to copy, mostly
    return readable.assign(**measures), unreadable


def _measure_rows(reader: ShardReader, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    places, measures, unreadable = [], [], {}
    for place, image_id, shard, offset, length, sha256 in rows.itertuples():
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
    first = "; ".join(f"{name} ({reason})" for name, reason in sorted(unreadable.items())[:_LISTED])
    raise InputError(
        f"{len(unreadable)} of {images} images do not decode, and metadata.max_unreadable = "
        f"{limit}; mend or remove them, or raise the limit to leave them out. First: {first}"
    )


def summary(
    metadata: pd.DataFrame, given_groups: int, unreadable: Mapping[str, str]
) -> dict[str, Any]:
    """Return the metrics: what there is, what is unreadable, and how much of it is copies.

    There were `given_groups` before copies were merged.
    """
    labels = metadata["label"].map(LABELS)
    sizes = metadata["group"].value_counts()
    return {
        "images": len(metadata),
        "by_label": labels.value_counts().to_dict(),
        "by_family": metadata["family"].value_counts().to_dict(),
        "by_method": {
            str(method): rows.value_counts().to_dict()
            for method, rows in labels.groupby(metadata["method"])
        },
        "unreadable": {"count": len(unreadable), "reasons": dict(unreadable)},
        "groups": {
            "count": len(sizes),
            "largest": int(sizes.max()),
            "merged_by_duplicates": given_groups - len(sizes),
            "exact_copies": int(metadata["sha256"].duplicated().sum()),
            "without_hash": int((metadata["perceptual_hash"] == "").sum()),
        },
    }


if __name__ == "__main__":
    run(main)
