"""make verify-processors: all that computes, here and on other processors -> a table."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from src.core import processor
from src.core.cli import InputError, run
from tests.emulation.interpreter import (
    EMULATOR,
    FAILED,
    PROCESSORS,
    SWITCHED_OFF,
    compute,
    disguise,
    obstacle,
)
from tests.emulation.ledger import OFF, Ledger, Row, write_page
from tests.emulation.small_run import prepare
from tests.emulation.worker import GROUPS


def native_name() -> str:
    """Return what this machine's processor calls itself, and whether it has AVX-512."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    width = "with AVX-512" if "avx512f" in fields["flags"].split() else "without AVX-512"
    return f"{fields['model name']}, {width}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table, anew after every check; what it holds already is not computed again.

    Raises:
        InputError: this machine cannot pose as another or is not exact itself, or bytes differ.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path, help="folder of what is computed; delete: all anew")
    parser.add_argument("page", type=Path, help="Markdown file to write")
    parser.add_argument("processors", nargs="*", default=PROCESSORS, help=f"{EMULATOR} -cpu help")
    args = parser.parse_args(argv)
    if found := obstacle() or processor.warning():
        raise InputError(found)
    scratch: Path = args.scratch.resolve()
    ledger, columns = Ledger(scratch / "ledger.tsv"), [OFF, *args.processors]
    here = _here(scratch / "native")

    def write() -> None:
        write_page(args.page, ledger, here, columns, native_name())

    write()
    for group, column in itertools.product(GROUPS, columns):
        todo = [name for name in group if not ledger.find(column, name, here[name])]
        for name, found in _elsewhere(todo, scratch / column, column):
            ledger.add(Row(column, name, here[name], found))
            write()
    verdicts = {
        check: {ledger.verdict(column, check, found) for column in args.processors}
        for check, found in here.items()
    }
    if differing := [check for check, found in verdicts.items() if found != {"same"}]:
        raise InputError(f"bytes differ in {', '.join(differing)}: see {args.page}")


def _here(folder: Path) -> dict[str, str]:
    prepare(folder)
    checks = [name for group in GROUPS for name in group]
    found = dict(compute(checks, folder, sys.executable, {}))
    if failed := [name for name, digest in found.items() if digest == FAILED]:
        raise InputError(f"{', '.join(failed)} failed here: see {folder / 'log.txt'}")
    return found


def _elsewhere(checks: Sequence[str], folder: Path, column: str) -> Iterator[tuple[str, str]]:
    prepare(folder)
    variables = SWITCHED_OFF if column == OFF else disguise(folder / "disguise", column)
    yield from compute(checks, folder, sys.executable, variables)


if __name__ == "__main__":
    run(main)
