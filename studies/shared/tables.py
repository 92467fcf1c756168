"""Tables of a study -> files, and the Markdown that its `make` target ends with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure


def write_results(
    directory: Path, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure], page: str
) -> None:
    """Write `tables` as CSV, `figures` as PNG and `page` as README.md to the new `directory`."""
    directory.mkdir()
    for name, table in tables.items():
        table.to_csv(
            directory / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n"
        )
    for name, figure in figures.items():
        # Without its software tag, which names a version, equal plots are equal files.
        figure.savefig(directory / f"{name}.png", metadata={"Software": None})
    (directory / "README.md").write_text(page, encoding="utf-8")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns line up when read as plain text too."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(map(str.ljust, line, widths)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def with_ends(value: float, low: float, high: float) -> str:
    """Return `0.812 [0.790, 0.834]`."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
