"""What was found so far: a file that each check's row is appended to, and the page made of it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from src.core.files import replacing
from src.core.processor import EXACT_VARIABLE
from tests.emulation.interpreter import FAILED

OFF = "off"  # this machine, its switches off
_PAGE = """\
# The same bytes on other processors

Written by `make verify-processors`. This machine computed everything, then again posing as the
processors of the other columns: CPUID, by which libraries choose their loops, answered what it does
there (vendor, instructions, sizes of caches; none has AVX-512). *same*: every byte was equal.
*Switches off* is this machine as it is with `{exact_variable}=0`: where it differs, the
[switches](../src/core/processor.py) are what makes the others equal. (ONNX Runtime has none: its
rows say something in the columns of other processors alone.)

This machine: {native}.

- Stages, and `judge` after them, are those of a small run of the whole pipeline, on 64 pictures and
  with 9 updates. The rest is what it leaves out. A detector made two updates of two images, or its
  head's solution, and a prediction. Rows of the sample are one image of that method.
- Not among them: the large BEiT-3, which has the layers of the others.
- Not disguised: the instructions themselves, and the C library, which has chosen its own loops by
  then. An emulator carries out all of that in the small run of `tests/test_processors.py`.
- Known to differ: the pixels of AVIF files, whose decoder has no switch; `torch.compile`
  (`train.compile`), which makes code for the processor at hand.

{table}
"""


class Row(NamedTuple):
    """One check in one column."""

    column: str
    check: str
    expected: str  # digest of this machine, its switches on
    found: str  # digest there, or FAILED


class Ledger:
    """The rows of all runs, the last one of each check and column."""

    def __init__(self, path: Path) -> None:
        """Read what earlier runs have left."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path = path
        with path.open(encoding="utf-8", newline="") as file:
            rows = [Row(*fields) for fields in csv.reader(file, delimiter="\t")]
        self._rows = {row[:2]: row for row in rows}

    def add(self, row: Row) -> None:
        """Keep a row."""
        self._rows[row[:2]] = row
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerow(row)

    def find(self, column: str, check: str, expected: str) -> Row | None:
        """Return the row of a check, if this machine still finds what it found then."""
        row = self._rows.get((column, check))
        return row if row and row.expected == expected else None

    def verdict(self, column: str, check: str, expected: str) -> str:
        """Return what the table says of a check."""
        row = self.find(column, check, expected)
        if row is None:
            return "not run"
        if row.found == FAILED:
            return "**failed**"
        if row.found == expected:
            return "same"
        return "other" if column == OFF else "**other**"


def write_page(
    page: Path, ledger: Ledger, here: Mapping[str, str], columns: Sequence[str], native: str
) -> None:
    """Write the table of the digests `here` and what each column found."""
    titles = ["switches off" if column == OFF else column for column in columns]
    head = ["what", "digest here", *titles]
    rows = [
        [check, f"`{digest}`", *(ledger.verdict(column, check, digest) for column in columns)]
        for check, digest in here.items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    text = _PAGE.format(native=native, table="\n".join(lines), exact_variable=EXACT_VARIABLE)
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
