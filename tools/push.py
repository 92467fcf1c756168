"""What dvc.lock names -> the remote, with all that lets `dvc repro --pull` skip a run elsewhere.

`dvc push --run-cache` leaves out the outputs that Git keeps (`cache: false`, our metrics). Without
them DVC cannot restore a run, and repeats it.
"""

import argparse
import logging
from collections.abc import Sequence

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from src.core.cli import run
from tools.remote.check_remote import check_push
from tools.remote.s3_errors import in_one_line
from tools.remote.stored_objects import CACHE, check_locked, copies, default_remote

logger = logging.getLogger("push")


def push(repo: Repo) -> int:
    """Push the outputs of `repo`, the runs that made them and the metrics; return how many files.

    Files that the remote has are not counted.

    Raises:
        InputError: there is nothing to push, or it is not all here; there is no remote, or it does
            not answer or take what is written.
    """
    check_locked(repo)
    # DVC would find out object by object, each with repetitions and a traceback: for minutes.
    check_push(repo, default_remote(repo))
    pushed = repo.push(run_cache=True)
    metrics = {
        HashInfo("md5", copy.oid)
        for copy in copies(repo, None)
        if copy.place == CACHE and not copy.output.use_cache
    }
    return int(pushed) + len(repo.cloud.push(metrics).transferred)


def main(argv: Sequence[str] | None = None) -> None:
    """Push, and say how much."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    with in_one_line(), Repo() as repo:
        logger.info("%d files pushed", push(repo))


if __name__ == "__main__":
    run(main)
