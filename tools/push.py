"""What dvc.lock names -> the remote, with all that lets `dvc repro --pull` skip a run elsewhere.

`dvc push --run-cache` leaves out the outputs that Git keeps (`cache: false`, our metrics). Without
them DVC cannot restore a run, and repeats it.
"""

import argparse
import logging
from collections.abc import Sequence

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from src.command import run
from tools.objects import CACHE, copies, default_remote

logger = logging.getLogger("push")


def push(repo: Repo) -> int:
    """Push the outputs of `repo`, the runs that made them and the metrics; return how many files.

    Files that the remote has are not counted.

    Raises:
        InputError: there is no remote.
    """
    default_remote(repo)  # else DVC's own error, a traceback here
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
    with Repo() as repo:
        logger.info("%d files pushed", push(repo))


if __name__ == "__main__":
    run(main)
