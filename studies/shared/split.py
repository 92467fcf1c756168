"""data/metadata.parquet -> the split of params.yaml but for its fold, or without a generator."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from src.core.cli import InputError, run
from src.core.files import write_json
from src.core.params import load_params
from src.core.tables import FAKE, read_parquet, write_table
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import COMPARED, images_of
from src.splitting.assignment import SplitParams
from src.splitting.draw import draw, read_drawn
from src.splitting.summary import summary


def generators(metadata: pd.DataFrame, name: str) -> tuple[str, ...]:
    """Return the generator `name`, or the generators of the family `name`.

    Raises:
        InputError: `metadata` has no generated image of that name.
    """
    fakes = metadata[metadata["label"] == FAKE]
    found = fakes.loc[(fakes["method"] == name) | (fakes["family"] == name), "method"]
    if found.empty:
        known = sorted({*fakes["method"], *fakes["family"]})
        raise InputError(
            f"{name!r} of studies/holdout/params.yaml: holdout.leave_out is no generator and no "
            f"family of the data set; it has {known}: name some of them there"
        )
    return tuple(sorted(found.unique()))


def without(params: SplitParams, names: tuple[str, ...]) -> SplitParams:
    """Return `params` with the methods `names` held out, beside those that are already."""
    held = {*params.holdout_methods, *names}
    return replace(params, holdout_methods=tuple(sorted(held)))


def main(argv: Sequence[str] | None = None) -> None:
    """Split as the main pipeline does, but for one thing."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_parquet", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    change = parser.add_mutually_exclusive_group(required=True)
    change.add_argument("--fold", type=int, help="in place of split.fold")
    change.add_argument("--without", help="a generator or a family that training shall not see")
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    metadata = read_parquet(args.metadata_parquet, [*COMPARED, "family"])
    if args.without is None:
        params = replace(params, fold=args.fold)
    else:
        params = without(params, generators(metadata, args.without))
    images = images_of(metadata)
    split = draw(images, params)
    write_table(read_drawn(args.metadata_parquet, split), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


if __name__ == "__main__":
    run(main)
