"""data/metadata.arrow -> data/splits.csv: train, validation and test, balanced and without leaks.

First every group of images is given to one split, by rank within its kind; then each split draws
as many real as fake images, equally from every method, with the same categories in both classes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.core.cli import run
from src.core.files import write_json
from src.core.params import load_params
from src.core.tables import write_table
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling_index import read_coded, read_rows
from src.splitting.assignment import (
    LEFT_OUT,
)
from src.splitting.draw import SplitParams, draw, in_order
from src.splitting.summary import summary


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_arrow", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    images = read_coded(args.metadata_arrow)
    split = draw(images, params)
    is_used = split != LEFT_OUT
    rows = read_rows(args.metadata_arrow, is_used).assign(key=images.key[is_used])
    write_table(in_order(rows, split[is_used]), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


if __name__ == "__main__":
    run(main)
