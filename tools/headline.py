"""After a run: the figures that matter, how sure they are, and where to look next."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from src.core.cli import run
from src.core.files import read_json
from src.reporting.titles import HEADLINES, TITLES
from tools.remote.s3_errors import in_one_line
from tools.verify import check_pipeline

METRICS = Path("metrics")


def headline(evaluate: dict[str, Any], shortcuts: dict[str, Any]) -> str:
    """Return the lines that `make repro` ends with."""
    test = evaluate["test"]
    metrics = {
        TITLES[name]: (test[name], test[f"{name}_low"], test[f"{name}_high"]) for name in HEADLINES
    }
    probes = {
        name.replace("_", " "): (probe["value"], probe["low"], probe["high"])
        for name, probe in shortcuts["auroc"].items()
    }
    return "\n".join(
        [
            f"Test images, threshold {evaluate['threshold']:.3f} (frozen on validation):",
            *_table(metrics),
            "AUROC of guesses from shortcuts alone (0.5 is chance):",
            *_table(probes),
            "Plots: plots/evaluate/overview.png; all in one page: dvc plots show --open",
        ]
    )


def _table(rows: Mapping[str, tuple[float, float, float]]) -> list[str]:
    return [
        f"  {title:<20}{value:7.3f}   {low:.3f} to {high:.3f}"
        for title, (value, low, high) in rows.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the headline of the last run.

    Raises:
        InputError: an output of the run is damaged.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    with in_one_line(), Repo() as repo:
        check_pipeline(repo)
    documents = (read_json(METRICS / f"{stage}.json") for stage in ("evaluate", "shortcuts"))
    sys.stdout.write(headline(*documents) + "\n")


if __name__ == "__main__":
    run(main)
