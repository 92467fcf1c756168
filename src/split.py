"""data/metadata.parquet -> data/splits.csv: train, val and test, balanced and without leaks.

First every group of images is given to one split, by rank within its stratum; then each split
draws as many real as fake images, equally from every method, with the same categories in both.
"""

from collections.abc import Sequence

from src.core.cli import parse_paths, run
from src.core.files import write_json
from src.core.params import load_params
from src.core.tables import read_parquet, write_table
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import COMPARED, images_of
from src.splitting.assignment import SplitParams
from src.splitting.draw import draw, read_drawn
from src.splitting.summary import summary

ARGUMENTS = "metadata_parquet splits_csv metrics_json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(SplitParams, "split")
    images = images_of(read_parquet(args.metadata_parquet, COMPARED))
    split = draw(images, params)
    write_table(read_drawn(args.metadata_parquet, split), args.splits_csv, SPLIT_TABLE)
    write_json(summary(images, split), args.metrics_json)


if __name__ == "__main__":
    run(main)
