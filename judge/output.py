"""Verdicts -> text for people, CSV or JSON, as they come or in a file that is whole or absent."""

import csv
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

from judge.files import Search, Unreadable
from judge.judging import Verdict
from src.core.cli import InputError
from src.core.files import replacing
from src.evaluation.calibration import Calibration

FORMATS = (".csv", ".json")
_WIDEST = 80  # characters that paths are padded to
# Of characters: a terminal would obey them, or not show them.
_UNSAFE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_NO_RESUME = (
    "{0} holds the verdicts of a run that was interrupted: add --resume to judge only what is "
    "left, or delete it"
)


class Results(NamedTuple):
    """What a document says beside its rows."""

    trained_on: str
    calibration: Calibration
    search: Search
    unreadable: Sequence[Unreadable]


def shown(path: str) -> str:
    """Return `path` as text that can be printed, in one line, whatever a file's name holds."""
    return "".join(
        char if unicodedata.category(char) not in _UNSAFE else _escaped(char) for char in path
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()


class Rows(Protocol):
    """Prints verdicts as they come."""

    def add(self, verdict: Verdict) -> str:
        """Return what to print of a verdict."""

    def end(self, verdicts: Sequence[Verdict], results: Results) -> str:
        """Return what to print after the last one."""


class TextRows:
    """A line per image, and a summary."""

    def __init__(self, paths: Iterable[str], quiet: bool) -> None:
        """Line up what follows `paths`."""
        self._width = min(_WIDEST, max((len(shown(path)) for path in paths), default=0))
        self._quiet = quiet

    def add(self, verdict: Verdict) -> str:
        """Return path, verdict, probability and the warning."""
        warning = "  unlike training" * verdict.unlike_training
        name = f"{shown(verdict.path):<{self._width}}"
        return f"{name}  {verdict.verdict}  {verdict.probability:.3f}{warning}\n"

    def end(self, verdicts: Sequence[Verdict], results: Results) -> str:
        """Return the summary."""
        return "" if self._quiet else summary(verdicts, results)


class CsvRows:
    """Comma-separated values, with a head."""

    def __init__(self) -> None:
        """Begin with the head."""
        self._head = _csv_line(Verdict._fields)

    def add(self, verdict: Verdict) -> str:
        """Return a row."""
        head, self._head = self._head, ""
        return head + _csv_line((shown(verdict.path), *verdict[1:]))

    def end(self, verdicts: Sequence[Verdict], results: Results) -> str:  # noqa: ARG002
        """Return the head, if there was no row."""
        return self._head


class JsonRows:
    """One document, when all are judged."""

    def add(self, verdict: Verdict) -> str:  # noqa: ARG002
        """Return nothing yet."""
        return ""

    def end(self, verdicts: Sequence[Verdict], results: Results) -> str:
        """Return the document; names are as they are, whatever they hold."""
        document = {
            "trained_on": results.trained_on,
            "threshold": results.calibration.threshold,
            "unsure": results.calibration.unsure,
            "images": [verdict._asdict() for verdict in verdicts],
            "unreadable": [item._asdict() for item in results.unreadable],
            "left_out": dict(sorted(results.search.no_images.items())),
        }
        return json.dumps(document, indent=2) + "\n"


class _Line(list[str]):
    def write(self, text: str) -> int:
        self.append(text)
        return len(text)


def _csv_line(values: Iterable[Any]) -> str:
    line = _Line()
    csv.writer(line, lineterminator="\n").writerow(values)
    return "".join(line)


def summary(verdicts: Sequence[Verdict], results: Results) -> str:
    """Return what all verdicts come to, and what was not judged."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    parts = [f"{counts['fake']} fake", f"{counts['real']} real"]
    parts += [f"{counts['unsure']} unsure"] * bool(results.calibration.unsure)
    low, high = results.calibration.ends
    between = f", unsure from {low:.3f}" if low < high else ""
    lines = [f"{', '.join(parts)} at P(fake) >= {high:.3f}{between}"]
    if unlike := sum(verdict.unlike_training for verdict in verdicts):
        lines[0] += f"; {unlike} unlike training"
    if results.unreadable:
        lines[0] += f", {len(results.unreadable)} not judged"
    return "\n".join([*lines, *left_out(results.search)]) + "\n"


def left_out(search: Search) -> list[str]:
    """Return a line for what the search took for no image, and one for what it did not enter."""
    lines = []
    if search.no_images:
        by_suffix = ", ".join(
            f"{count} {shown(suffix)}" for suffix, count in search.no_images.most_common()
        )
        lines.append(f"left out, no images: {by_suffix}")
    if search.left_out:
        lines.append(f"left out: {shown(str(search.left_out))}")
    return lines


def _head(identity: str) -> dict[str, str]:
    return {"judge": identity, "lines": "bytes, nanoseconds, verdict"}


Stamp = tuple[int, int]  # bytes of a file, and when it was changed last, in nanoseconds


class Journal:
    """Verdicts beside the file that they are meant for, line by line, until all are there.

    A file that is another when the run is resumed, by size or time, is judged again.
    """

    def __init__(self, path: Path, identity: str, resume: bool) -> None:
        """Begin `path`.partial, or go on with it; `identity` is the judge's.

        Raises:
            InputError: the suffix is unknown, there is one and `resume` is false, or its verdicts
                are another detector's.
        """
        if path.suffix.lower() not in FORMATS:
            raise InputError(f"--output {path}: the suffix must be one of {', '.join(FORMATS)}")
        self.path, self._partial = path, path.with_name(f"{path.name}.partial")
        self.known: dict[str, Verdict] = {}
        self._stamps: dict[str, Stamp | None] = {}
        if self._partial.exists():
            if not resume:
                raise InputError(_NO_RESUME.format(self._partial))
            self._read(identity)
        try:
            self._file: TextIO = self._partial.open("w", encoding="ascii")
        except OSError as error:
            raise InputError(f"--output {path}: {error.strerror}; name another file") from error
        self._write(_head(identity))
        for verdict in self.known.values():
            self.add(verdict)

    def _read(self, identity: str) -> None:
        first, *lines = self._partial.read_text(encoding="ascii").split("\n")
        if json.loads(first or "null") != _head(identity):
            raise InputError(
                f"{self._partial} was begun with another detector or threshold: give the same "
                "again, or delete it"
            )
        # What follows the last line end was cut short.
        for line in lines[:-1]:
            *stamp, found = json.loads(line)
            verdict = Verdict(**found)
            self.see(verdict.path)
            if self._stamps[verdict.path] == tuple(stamp):
                self.known[verdict.path] = verdict

    def see(self, path: str) -> None:
        """Remember what the file at `path` is like before it is judged."""
        try:
            found = Path(path).stat()
            self._stamps[path] = found.st_size, found.st_mtime_ns
        except (OSError, ValueError):  # it will not be judged, and that will say why
            self._stamps[path] = None

    def add(self, verdict: Verdict) -> None:
        """Write down what was said of a file that was seen."""
        if stamp := self._stamps[verdict.path]:
            self._write([*stamp, verdict._asdict()])
            self._file.flush()

    def _write(self, line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Leave what is there to a later run."""
        self._file.close()

    def finish(self, verdicts: Sequence[Verdict], results: Results) -> None:
        """Write the file, and delete what was written on the way."""
        self.close()
        rows: Rows = CsvRows() if self.path.suffix.lower() == ".csv" else JsonRows()
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(rows.add(verdict) for verdict in verdicts)
            file.write(rows.end(verdicts, results))
        self._partial.unlink()
