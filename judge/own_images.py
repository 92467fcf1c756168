"""A run over somebody's own images: find, judge, print, paint."""

import argparse
import io
import logging
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from judge.command_line import SOME_UNREADABLE
from judge.files import Unreadable, find_images
from judge.heatmaps import make_folder, write_heatmaps
from judge.judging import Judge, Verdict
from judge.output import (
    CsvRows,
    Journal,
    JsonRows,
    Results,
    Rows,
    TextRows,
    left_out,
    shown,
    summary,
)
from src.core.cli import InputError

logger = logging.getLogger(__name__)

_KEYS: dict[str, Callable[[Verdict], Any]] = {
    "probability": lambda verdict: -verdict.probability,
    "distance": lambda verdict: -verdict.distance,
    "path": lambda verdict: verdict.path,
}


def judge_own_images(args: argparse.Namespace) -> None:
    """Print a verdict on each image that `args` name; exit with SOME_UNREADABLE if not on all.

    Raises:
        InputError: there is no image, no trained model, or no folder for the heat-maps.
        OSError: a heat-map or the output cannot be written (a full disk).
    """
    _let_any_name_through()
    search = find_images(args.images, sys.stdin.buffer)
    if not search.found:
        raise InputError(_nothing(args.images, search.no_images))
    judge = Judge.load(args.models, args.runtime)
    if args.threshold is not None:
        judge = judge.with_threshold(args.threshold)
    if args.heatmap:
        make_folder(args.heatmap)
    journal = Journal(args.output, judge.identity, args.resume) if args.output else None
    run = Run(judge, args, journal)
    run.results = Results(judge.trained_on, judge.calibration, search, run.unreadable)
    missed = run.all()
    if run.unreadable or missed:
        sys.exit(SOME_UNREADABLE)


def _nothing(names: Sequence[str], no_images: dict[str, int]) -> str:
    others = ", ".join(f"{count} {shown(suffix)}" for suffix, count in no_images.items())
    left_out = f"; left out: {others}" if others else ""
    return f"no images in {' '.join(map(shown, names))}{left_out}"


class Run:
    """Judges what was found, and prints it on the way."""

    results: Results

    def __init__(self, judge: Judge, args: argparse.Namespace, journal: Journal | None) -> None:
        """Begin with nothing judged."""
        self.judge, self.args, self.journal = judge, args, journal
        self.verdicts: list[Verdict] = []
        self.unreadable: list[Unreadable] = []

    def all(self) -> int:
        """Judge everything; return how many heat-maps are missing."""
        found = self.results.search.found
        rows = self._rows(found)
        self._say_what_it_was_trained_on()
        self._judge(found, rows)
        if self.args.sort != "found":
            self.verdicts.sort(key=_KEYS[self.args.sort])
            self._print(map(rows.add, self.verdicts))
        if self.journal:
            self.journal.finish(self.verdicts, self.results)
            if not self.args.quiet:
                self._print([summary(self.verdicts, self.results)])
        else:
            self._print([rows.end(self.verdicts, self.results)])
        if self.args.quiet or (not self.journal and (self.args.json or self.args.csv)):
            for line in left_out(self.results.search):  # which no summary says
                logger.warning(line)
        for path, reason in self.unreadable:
            logger.warning("%s: not judged: %s", shown(path), shown(reason))
        if not self.args.heatmap:
            return 0
        judged = {verdict.path for verdict in self.verdicts}
        numbered = [(n, path) for n, path in enumerate(found) if str(path) in judged]
        folder, cells = self.args.heatmap, self.args.heatmap_cells
        return write_heatmaps(self.judge, numbered, folder, cells, self.args.quiet)

    def _say_what_it_was_trained_on(self) -> None:
        # First of all, but not among rows that a program reads.
        if self.args.json or self.args.csv or self.args.quiet:
            logger.info(self.results.trained_on)
        else:
            self._print([self.results.trained_on + "\n"])

    def _rows(self, found: Sequence[Path | Unreadable]) -> Rows:
        if self.args.json:
            return JsonRows()
        if self.args.csv:
            return CsvRows()
        paths = (str(path) for path in found if isinstance(path, Path))
        return TextRows(paths, self.args.quiet)

    def _judge(self, found: Sequence[Path | Unreadable], rows: Rows) -> None:
        at_once = self.args.sort == "found" and not self.journal
        silent = True if self.args.quiet else None  # None: where there is no terminal
        with tqdm(total=len(found), desc="judge", unit=" images", disable=silent) as bar:
            for result in self._results(found):
                if isinstance(result, Verdict):
                    self.verdicts.append(result)
                    if at_once:
                        self._print([rows.add(result)])
                else:
                    self.unreadable.append(result)
                bar.update()

    def _results(self, found: Sequence[Path | Unreadable]) -> Iterator[Verdict | Unreadable]:
        """Yield what is to be said of each of `found`, in their order; nothing is judged twice."""
        known = self.journal.known if self.journal else {}
        fresh = self.judge.judge_all(self._unknown(found, known), self.args.batch_size)
        for item in found:
            if (verdict := known.get(str(item))) is None:
                result = next(fresh)
                if self.journal and isinstance(result, Verdict):
                    self.journal.add(result)
                yield result
            else:
                yield verdict

    def _unknown(
        self, found: Sequence[Path | Unreadable], known: Container[str]
    ) -> Iterator[Path | Unreadable]:
        for item in found:
            if str(item) not in known:
                if self.journal:
                    self.journal.see(str(item))
                yield item

    def _print(self, texts: Iterable[str]) -> None:
        with tqdm.external_write_mode(sys.stdout):  # not through a bar on the same terminal
            sys.stdout.writelines(texts)
            sys.stdout.flush()


def _let_any_name_through() -> None:
    """Let no file's name end the run: it may hold what the terminal's encoding does not."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # whoever calls `main` may have put another
        sys.stdout.reconfigure(errors="backslashreplace")
