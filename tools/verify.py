"""Every file that dvc.lock names, wherever it is kept -> is it still the same, to the byte?"""

import argparse
import logging
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from dvc.repo import Repo

from src.core.cli import InputError, run
from src.core.files import replacing
from tools.remote.check_remote import check_read
from tools.remote.rehash import DAMAGED, MISSING, OK, UNEXPECTED, Result, rehash
from tools.remote.repair import repair
from tools.remote.s3_errors import in_one_line
from tools.remote.stored_objects import (
    CACHE,
    WORKSPACE,
    check_locked,
    copies,
    default_remote,
    remotes_in_use,
)

logger = logging.getLogger("verify")

ASIDE = Path(".scratch/replaced")
REBUILD = Path(".scratch/lost.txt")
SHOWN = 20


def verify(repo: Repo, remote: str | None) -> list[Result]:
    """Return the state of every copy in workspace and cache, and in `remote` (a name) if given.

    Raises:
        InputError: dvc.lock has nothing of the pipeline, or a remote does not answer.
    """
    check_locked(repo)
    if remote is not None:
        # It would be found out object by object, each with repetitions.
        for name in remotes_in_use(repo, remote):
            check_read(repo, name)
    return rehash(list(copies(repo, remote)))


def verify_and_repair(repo: Repo, remote: str | None) -> list[Result]:
    """Return what `verify` returns once whole copies have replaced bad ones.

    Without `remote`, the remotes are read for what is whole nowhere here, and never written.

    Raises:
        InputError: what `verify` raises.
    """
    results = verify(repo, remote)
    # Twice: the files of a directory are known only once its listing is whole.
    for _ in range(2):
        if all(result.state == OK for result in results):
            break
        known = results if remote else [*results, *_on_remotes(_lost(results), repo)]
        if not repair(known, ASIDE):
            break
        with Repo(repo.root_dir) as again:  # an open one remembers the listings it could not read
            results = verify(again, remote)
    return results


def _lost(results: Sequence[Result]) -> set[str]:
    """Return the hashes of what the cache should have and no copy here has."""
    whole = {each.copy.oid for each in results if each.state == OK and not each.copy.is_directory}
    wanted = {
        each.copy.oid
        for each in results
        if each.copy.place == CACHE and each.state in (DAMAGED, MISSING)
    }
    return wanted - whole


def _on_remotes(wanted: set[str], repo: Repo) -> list[Result]:
    """Return the whole remote objects of these hashes; log the others, and silent remotes."""
    default = repo.config["core"].get("remote")
    if default is None or not wanted:
        return []
    answering = set()
    for name in remotes_in_use(repo, default):
        try:
            check_read(repo, name)
        except InputError as error:
            logger.error("not read: %s", error)
        else:
            answering.add(f"remote {name}")
    results = rehash(
        [
            copy
            for copy in copies(repo, default if answering else None)
            if copy.oid in wanted and copy.place in answering
        ]
    )
    _log([result for result in results if result.state != OK])
    return [result for result in results if result.state == OK]


def check_pipeline(repo: Repo) -> None:
    """Check every byte of the pipeline's outputs in the workspace, before figures come from them.

    DVC trusts a file whose size and time are those that it remembers.

    Raises:
        InputError: one is not what dvc.lock says.
    """
    pipeline = repo.fs.join(repo.root_dir, "dvc.yaml")
    here = (copy for copy in copies(repo, None) if copy.place == WORKSPACE)
    results = rehash([copy for copy in here if copy.output.stage.path == pipeline])
    bad = [result for result in results if result.state != OK]
    if bad:
        raise InputError(
            f"{len(bad)} of {len(results)} files are not what dvc.lock says, first "
            f"{bad[0].copy.name} ({bad[0].state}): no figures from them; make verify REPAIR=1"
        )


def report(results: Sequence[Result]) -> None:
    """Log every copy that is not whole, and the sum.

    Raises:
        InputError: some copy is not whole.
    """
    bad = [result for result in results if result.state != OK]
    _log(bad)
    places = Counter(result.copy.place for result in results)
    counted = ", ".join(f"{count} in {place}" for place, count in sorted(places.items()))
    if not bad:
        logger.info("%d copies are whole (%s)", len(results), counted)
        return
    advice = {
        DAMAGED: "damaged: make verify REPAIR=1 puts whole copies back, if any (changes of yours "
        f"in the workspace? they go to {ASIDE}; dvc commit keeps them)",
        MISSING: "missing: dvc pull, or make push for the remote",
        UNEXPECTED: "unexpected: not part of the output; delete, or make verify REPAIR=1",
    }
    states = Counter(result.state for result in bad)
    lines = [text for state, text in advice.items() if state in states]
    unread = sum(number for state, number in states.items() if state not in advice)
    if wrong := len(bad) - unread:
        lines.insert(0, f"{wrong} of {len(results)} copies are not whole")
    lines += _rebuild(results)
    if unread:
        lines.append(f"{unread} of {len(results)} could not be read, for the reasons above")
    raise InputError("; ".join(lines))


def _rebuild(results: Sequence[Result]) -> Iterator[str]:
    """Yield the commands that make again what has no whole copy here, if there is such a thing.

    The damaged objects go first: DVC would link them instead of keeping what was made.
    """
    lost = _lost(results)
    copies_of_it = [each.copy for each in results if each.copy.oid in lost]
    if not copies_of_it:
        return
    objects = sorted({copy.path for copy in copies_of_it if copy.place == CACHE})
    stages = dict.fromkeys(copy.output.stage.addressing for copy in copies_of_it)
    REBUILD.parent.mkdir(parents=True, exist_ok=True)
    with replacing(REBUILD) as temporary:
        temporary.write_text(
            "".join(f"{shlex.quote(path)}\n" for path in objects), encoding="utf-8"
        )
    yield (
        f"{len(objects)} without a whole copy here, listed in {REBUILD}: if make verify REMOTE=1 "
        f"REPAIR=1 finds none either, build them again: xargs rm -f < {REBUILD}; dvc "
        f"repro --force --single-item {' '.join(stages)}"
    )


def _log(bad: Sequence[Result]) -> None:
    for result in bad[:SHOWN]:
        logger.error("%s: %s", result.state, result.copy)
    if len(bad) > SHOWN:
        logger.error("... and %d more", len(bad) - SHOWN)


def main(argv: Sequence[str] | None = None) -> None:
    """Verify, and repair on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--remote", action="store_true", help="read the remote objects as well")
    parser.add_argument("--repair", action="store_true", help="replace bad copies by whole ones")
    args = parser.parse_args(argv)
    with in_one_line(), Repo() as repo:
        remote = default_remote(repo) if args.remote else None
        report((verify_and_repair if args.repair else verify)(repo, remote))


if __name__ == "__main__":
    run(main)
