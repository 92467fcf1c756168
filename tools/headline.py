"""After a run: the figures that matter, how sure they are, and where to look next."""

import sys
from pathlib import Path
from typing import Any

from src.command import run
from src.files import read_json

METRICS = Path("metrics")
FIGURES = {
    "mcc": "MCC",
    "ap": "average precision",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
}


def headline(evaluate: dict[str, Any], shortcuts: dict[str, Any]) -> str:
    """Return the lines that `make repro` ends with."""
    test = evaluate["test"]
    lines = [f"The detector on the test images (threshold {evaluate['threshold']:.3f}, chosen on val):"]
    lines += [
        f"  {title:<20}{test[name]:7.3f}   {test[f'{name}_low']:.3f} to {test[f'{name}_high']:.3f}"
        for name, title in FIGURES.items()
    ]
    lines.append("What guesses the label without looking properly (AUROC; 0.5 is chance):")
    lines += [
        f"  {name.replace('_', ' '):<20}{probe['auroc']:7.3f}   {probe['low']:.3f} to {probe['high']:.3f}"
        for name, probe in shortcuts["probes"].items()
    ]
    lines.append("Plots: plots/evaluate/overview.png, or all of them in one page: dvc plots show --open")
    return "\n".join(lines)


def main() -> None:
    """Print the headline of the last run."""
    documents = (read_json(METRICS / f"{stage}.json") for stage in ("evaluate", "shortcuts"))
    sys.stdout.write(headline(*documents) + "\n")


if __name__ == "__main__":
    run(main)
