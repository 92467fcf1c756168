"""make verify-processors: all that computes, on this machine and on emulated ones -> a table."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.core import processor
from src.core.cli import InputError, run
from src.core.files import replacing
from tests.emulation.interpreter import (
    EMULATOR,
    PROCESSORS,
    emulated_python,
    environment,
    has_emulator,
)
from tests.emulation.small_run import ROOT, small_run

PAGE = """\
# The same bytes on other processors

Written by `make verify-processors`. This machine ({native}) computed everything, and the emulator
`qemu-x86_64` did on the processors of the other columns: *same* says that every byte was equal.
None of those has AVX-512.

The stages are those of a small run of the whole pipeline, on 64 pictures with 9 updates. Below
them: what a run of the default parameters leaves out. Detectors made two updates and a prediction.

{table}
"""


def compute(folder: Path, python: str | Path) -> dict[str, str]:
    """Return what is computed -> a digest of it."""
    stages = small_run(folder, python)
    found = {f"stage `{name}`": digest for name, digest in stages.items()}
    command = [str(python), "-m", "tests.emulation.parts"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(ROOT), check=True, stdout=subprocess.PIPE, text=True
    )
    return found | dict(line.split("\t") for line in done.stdout.splitlines())


def rows(native: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """Return the table, its head first."""
    head = ["what", "digest here", *others]
    lines = [
        [
            what,
            f"`{digest}`",
            *("same" if found[what] == digest else "**other**" for found in others.values()),
        ]
        for what, digest in native.items()
    ]
    return [head, ["---"] * len(head), *lines]


def native_name() -> str:
    """Return what this machine's processor calls itself, and whether it has AVX-512."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    pairs = (line.partition(":") for line in text.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    width = "with AVX-512" if "avx512f" in fields["flags"].split() else "without AVX-512"
    return f"{fields['model name']}, {width}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table.

    Raises:
        InputError: there is no emulator, this machine is not exact itself, or bytes differ.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path, help="folder that is made anew")
    parser.add_argument("page", type=Path, help="Markdown file to write")
    parser.add_argument("processors", nargs="*", default=PROCESSORS, help=f"{EMULATOR} -cpu help")
    args = parser.parse_args(argv)
    if not has_emulator():
        raise InputError(f"there is no {EMULATOR}: apt-get install qemu-user")
    if warning := processor.warning():
        raise InputError(warning)
    shutil.rmtree(args.scratch, ignore_errors=True)
    native = compute(args.scratch / "native", sys.executable)
    others = {}
    for name in args.processors:
        python = emulated_python(args.scratch / f"python-{name}", name)
        others[name] = compute(args.scratch / name, python)
        table = rows(native, others)
        lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
        with replacing(args.page) as temporary:
            temporary.write_text(PAGE.format(native=native_name(), table=lines), encoding="utf-8")
    if differing := [row[0] for row in rows(native, others)[2:] if "**other**" in row]:
        raise InputError(f"bytes differ in {', '.join(differing)}: see {args.page}")


if __name__ == "__main__":
    run(main)
