"""What dvc.lock names <- the remote: `dvc pull` that looks for itself what is missing.

DVC believes its own records of what the cache has, which a killed pull leaves wrong.
"""

import argparse
import logging
from collections.abc import Sequence

from dvc.repo import Repo

from src.core.cli import InputError, run
from tools.remote.check_remote import check_read
from tools.remote.s3_errors import in_one_line
from tools.remote.stored_objects import (
    CACHE,
    WORKSPACE,
    Inventory,
    check_locked,
    copies,
    default_remote,
    remotes_in_use,
)
from tools.remote.transport import send_all

logger = logging.getLogger("pull")


def pull(repo: Repo) -> int:
    """Fetch what the cache does not have, each object hashed; link it into the workspace.

    Returns how many objects were fetched.

    Raises:
        InputError: an object is on no remote or arrives damaged, or a file of yours is in the way.
    """
    check_locked(repo)
    name = default_remote(repo)
    for each in remotes_in_use(repo, name):
        check_read(repo, each)
    here = list(copies(repo, name))
    remote = {copy.oid: copy for copy in here if copy.is_remote}
    cache = {copy.oid: copy for copy in here if copy.place == CACHE and copy.output.use_cache}
    missing = Inventory.take(list(cache.values()), {}).missing
    if failures := send_all([(remote[copy.oid], copy) for copy in missing], "pull"):
        (copy, reason), count = failures[0], f"{len(failures)} of {len(missing)}"
        raise InputError(f"{count} objects were not pulled, {copy.name}: {reason}")
    repo.drop_data_index()
    repo.checkout()
    wanted = [copy for copy in copies(repo, None) if copy.place == WORKSPACE and copy.oid]
    if absent := Inventory.take([copy for copy in wanted if copy.output.use_cache], {}).missing:
        raise InputError(f"{len(absent)} files are missing, {absent[0]}: make verify REPAIR=1")
    return len(missing)


def main(argv: Sequence[str] | None = None) -> None:
    """Pull, and say how much."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    with in_one_line(), Repo() as repo:
        logger.info("%d objects fetched; the workspace is complete", pull(repo))


if __name__ == "__main__":
    run(main)
