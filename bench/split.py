"""What a balanced draw from 2.5 million rows costs, against pandas' own reading and sampling."""

import os
from pathlib import Path

import pandas as pd

from bench.results import Figure, Outcome, at_least, at_most
from bench.tables import ROWS, SPLIT, crowded_hashes, make_metadata, write_params
from bench.timing import Cost, cost_of, in_child, medians, ratio, repeats
from src import split as split_stage
from src.core.tables import write_parquet, write_table
from src.dataset.columns import METADATA
from src.dataset.sampling import SAMPLING, representative_keys

ROUNDS, DRAWN_PER_CLASS = 3, 50_000


def run(scale: float, folder: Path) -> Outcome:
    """Draw 100,000 images with the stage's own command, and with a notebook's five lines."""
    rows, drawn = max(2000, round(ROWS * scale)), max(100, round(DRAWN_PER_CLASS * scale))
    written, _ = in_child(_write, rows, folder)
    costs: dict[str, list[Cost]] = {"here": [], "pandas": [], "all": []}
    for number in range(rounds := repeats(ROUNDS, scale)):
        costs["here"].append(in_child(stage, folder, drawn)[1])
        costs["pandas"].append(in_child(usual, folder, drawn)[1])
        if not number:  # every image that balance allows
            costs["all"].append(in_child(stage, folder, None)[1])
    usual_way = "pandas: read_csv, groupby, sample"
    return Outcome(
        [
            Figure(
                "time of a draw", usual_way, ratio(costs, "pandas", "here", "wall"), at_least(4)
            ),
            Figure("memory of a draw", "", _gigabytes(costs["here"]), at_most(0.6, "GB")),
            Figure("memory of the largest split", "", _gigabytes(costs["all"]), at_most(1.5, "GB")),
        ],
        {
            "parquet_cpu_seconds": written.cpu,  # what the metadata stage pays for it, once
            "drawn": 2 * drawn,
            "median": medians(costs),
            "pandas_gigabytes": _gigabytes(costs["pandas"]),
            "rounds": rounds,
            "rows": rows,
        },
        ("numpy", "pandas", "pyarrow"),
    )


def _gigabytes(costs: list[Cost]) -> float:
    return max(cost.gigabytes for cost in costs)


def _write(rows: int, folder: Path) -> Cost:
    metadata = make_metadata(rows, crowded_hashes(rows))
    write_table(metadata, folder / "metadata.csv", METADATA)
    path = folder / "metadata.parquet"
    return cost_of(
        lambda: write_parquet(
            metadata.assign(group_key=representative_keys(metadata)), path, SAMPLING
        )
    )


def stage(folder: Path, images_per_class: int | None) -> None:
    """Run the stage `split` in `folder`."""
    os.chdir(folder)
    write_params(folder, split={**SPLIT, "images_per_class": images_per_class})
    split_stage.main(["metadata.parquet", "splits.csv", "split.json"])


def usual(folder: Path, images_per_class: int) -> None:
    """Draw as many images of each class, with neither groups nor methods nor categories."""
    table = pd.read_csv(folder / "metadata.csv")
    drawn = table.groupby("label").sample(images_per_class, random_state=0)
    drawn.to_csv(folder / "drawn.csv", index=False)
