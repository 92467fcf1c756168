"""Every file that dvc.lock names, wherever it is kept -> is it still the same, to the byte?"""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dvc.repo import Repo

from src.command import InputError, run
from tools.explain import in_one_line
from tools.objects import CACHE, WORKSPACE, copies, default_remote
from tools.rehash import DAMAGED, MISSING, OK, UNEXPECTED, Result, rehash
from tools.repair import repair

logger = logging.getLogger("verify")

ASIDE = Path(".scratch/replaced")
SHOWN = 20


def verify(repo: Repo, remote: str | None) -> list[Result]:
    """Return the state of every copy in workspace and cache, and in `remote` (a name) if given.

    Raises:
        InputError: dvc.lock names nothing.
    """
    wanted = list(copies(repo, remote))
    if not wanted:
        raise InputError("dvc.lock names no output yet: make repro, or git pull and dvc pull")
    return rehash(wanted)


def verify_and_repair(repo: Repo, remote: str | None) -> list[Result]:
    """Return what `verify` returns once whole copies have replaced bad ones.

    Without `remote`, the default remote is read for what is bad here, and for nothing else.
    """
    results = verify(repo, remote)
    # Twice: the files of a directory are known only once its listing is whole.
    for _ in range(2):
        if all(result.state == OK for result in results):
            break
        known = results if remote else [*results, *_on_default_remote(results, repo)]
        repair(known, repo, ASIDE)
        with Repo(repo.root_dir) as again:  # an open one remembers the listings it could not read
            results = verify(again, remote)
    return results


def _on_default_remote(results: Sequence[Result], repo: Repo) -> list[Result]:
    bad = {result.copy.oid for result in results if result.state != OK}
    name = default_remote(repo)
    return rehash(
        [
            copy
            for copy in copies(repo, name)
            if copy.oid in bad and copy.place not in (WORKSPACE, CACHE)
        ]
    )


def report(results: Sequence[Result]) -> None:
    """Log every copy that is not whole, and the sum.

    Raises:
        InputError: some copy is not whole.
    """
    bad = [result for result in results if result.state != OK]
    for result in bad[:SHOWN]:
        logger.error("%s: %s", result.state, result.copy)
    if len(bad) > SHOWN:
        logger.error("... and %d more", len(bad) - SHOWN)
    places = Counter(result.copy.place for result in results)
    counted = ", ".join(f"{count} in {place}" for place, count in sorted(places.items()))
    if not bad:
        logger.info("%d copies are whole (%s)", len(results), counted)
        return
    states = Counter(result.state for result in bad)
    advice = {
        DAMAGED: "damaged: make verify REPAIR=1 puts whole copies back (workspace changes of "
        f"yours? they go to {ASIDE}; dvc commit keeps them)",
        MISSING: "missing: dvc pull, or dvc push for the remote",
        UNEXPECTED: "unexpected: not part of the output; delete, or make verify REPAIR=1",
    }
    lines = [text for state, text in advice.items() if state in states]
    raise InputError("; ".join([f"{len(bad)} of {len(results)} copies are not whole", *lines]))


def main(argv: Sequence[str] | None = None) -> None:
    """Verify, and repair on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remote", action="store_true", help="read the remote objects as well")
    parser.add_argument("--repair", action="store_true", help="replace bad copies by whole ones")
    args = parser.parse_args(argv)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    with in_one_line(), Repo() as repo:
        remote = default_remote(repo) if args.remote else None
        report((verify_and_repair if args.repair else verify)(repo, remote))


if __name__ == "__main__":
    run(main)
