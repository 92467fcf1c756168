"""What dvc.lock names -> the remote, with all that lets `dvc repro --pull` skip a run elsewhere.

`dvc push --run-cache` leaves out the outputs that Git keeps (`cache: false`, our metrics). Without
them DVC cannot restore a run, and repeats it.
"""

import logging

from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from src.command import run
from tools.objects import CACHE, copies

logger = logging.getLogger("push")


def push(repo: Repo) -> int:
    """Push the outputs of `repo`, the runs that made them and the metrics; return how many files.

    Files that the remote has are not counted.
    """
    pushed = repo.push(run_cache=True)
    metrics = {
        HashInfo("md5", copy.oid)
        for copy in copies(repo, None)
        if copy.place == CACHE and not copy.output.use_cache
    }
    return int(pushed) + len(repo.cloud.push(metrics).transferred)


def main() -> None:
    """Push, and say how much."""
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    with Repo() as repo:
        logger.info("%d files pushed", push(repo))


if __name__ == "__main__":
    run(main)
