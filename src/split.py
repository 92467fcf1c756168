"""data/metadata.parquet -> data/splits.csv: train, val and test, balanced and without leaks.

First every group of images is given to one split, by rank within its stratum; then each split
draws as many real as fake images, equally from every method, with the same categories in both.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.core.cli import run
from src.core.files import write_json
from src.core.params import load_params
from src.core.tables import read_parquet, write_table
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import COMPARED, images_of
from src.splitting.assignment import SplitParams
from src.splitting.draw import draw, read_drawn
from src.splitting.summary import summary


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("metadata_parquet", "splits_csv", "metrics_json"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    params = load_params(SplitParams, "split")
    images = images_of(read_parquet(args.metadata_parquet, COMPARED))
    split = draw(images, params)
    write_table(read_drawn(args.metadata_parquet, split), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


if __name__ == "__main__":
    run(main)
