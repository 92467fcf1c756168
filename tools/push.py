"""What dvc.lock names -> the remote, with all that lets `dvc repro --pull` skip a run elsewhere.

`dvc push --run-cache` leaves out the outputs that Git keeps (`cache: false`, our metrics); without
them DVC cannot restore a run, and repeats it. It also believes its own records of what the remote
has, which a killed push leaves wrong: here the remote is asked, before and after.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dvc.repo import Repo

from src.core.cli import InputError, run
from tools.remote.check_objects import describe_lost
from tools.remote.check_remote import check_push
from tools.remote.s3_errors import in_one_line
from tools.remote.stored_objects import (
    CACHE,
    Copy,
    Inventory,
    cached_sizes,
    check_locked,
    copies,
    default_remote,
)
from tools.remote.transport import send_all

logger = logging.getLogger("push")


def push(repo: Repo) -> int:
    """Push the outputs of `repo`, the runs that made them and the metrics; return how many files.

    Files that the remote has are not counted.

    Raises:
        InputError: there is nothing to push, or it is not all here, or damaged; there is no remote,
            or it does not answer or take what is written.
    """
    check_locked(repo)
    name = default_remote(repo)
    # It would be found out object by object, each with repetitions: for minutes.
    check_push(repo, name)
    here = list(copies(repo, name))
    cached = {copy.oid: copy for copy in here if copy.place == CACHE}
    targets = [copy for copy in here if copy.is_remote] + list(_metrics(repo, name, here))
    wanted = list({(copy.place, copy.oid): copy for copy in targets}.values())
    sizes = cached_sizes(cached.values())
    before = Inventory.take(wanted, sizes)
    if before.lost:
        raise InputError(f"{before.lost[0].place}, objects: {'; '.join(describe_lost(before))}")
    to_send = before.missing + before.resized
    # A listing follows its files and a run its outputs: a push that is killed promises nothing.
    for end in (False, True):
        _send([(cached[w.oid], w) for w in to_send if w.oid.endswith(".dir") is end])
    after = Inventory.take(to_send, sizes)
    if absent := after.missing + after.resized:
        raise InputError(
            f"{absent[0]}: sent, and the remote does not have it: make push again; if it stays, "
            "the server loses what it accepts: ask its operator"
        )
    return len(to_send) + _push_runs(repo, name)


def _metrics(repo: Repo, name: str, here: Iterable[Copy]) -> Iterator[Copy]:
    """Yield where the remote keeps the cached outputs that Git keeps as well."""
    store = repo.cloud.get_remote_odb(name)
    for copy in here:
        if copy.place == CACHE and not copy.output.use_cache:
            path = store.oid_to_path(copy.oid)
            yield replace(copy, place=f"remote {name}", path=path, fs=store.fs)


def _send(pairs: Sequence[tuple[Copy, Copy]]) -> None:
    if failures := send_all(pairs, "push"):
        (copy, reason), count = failures[0], f"{len(failures)} of {len(pairs)}"
        raise InputError(f"{count} objects were not pushed, {copy.name}: {reason}")


def _push_runs(repo: Repo, name: str) -> int:
    """Push what the run cache knows of each run; return how many files the remote did not have."""
    here, remote = Path(repo.cache.legacy.path), repo.cloud.get_remote(name)
    known = set(remote.fs.find(remote.fs.join(remote.path, "runs")))
    paths = sorted(path for path in here.glob("runs/??/*/*") if path.suffix != ".tmp")
    targets = {
        target: str(path)
        for path in paths
        if (target := remote.fs.join(remote.path, *path.relative_to(here).parts)) not in known
    }
    remote.fs.put(list(targets.values()), list(targets))
    return len(targets)


def main(argv: Sequence[str] | None = None) -> None:
    """Push, and say how much."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    with in_one_line(), Repo() as repo:
        logger.info("%d files pushed; the remote has all that dvc.lock names", push(repo))


if __name__ == "__main__":
    run(main)
