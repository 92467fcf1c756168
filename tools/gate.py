"""dvc.yaml, dvc.lock and what Git keeps -> is dvc.lock what `dvc repro` would write?

Needs no data: what dvc.lock knows counts as there. `dvc repro --allow-missing --dry` decides alike,
but where the data are absent it ends at the first stage that changed, in "No such file".
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from src.core.cli import InputError, run
from tools.remote.s3_errors import in_one_line


def compare(repo: Repo) -> Iterator[tuple[str, bool]]:
    """Yield the name of each stage of dvc.yaml, in the order of a run, and whether it changed.

    What merely follows a stage that changed has not: nobody knows yet what that will write.
    """
    graph = get_active_graph(repo.index.graph)
    for stage in plan_repro(graph, repo.stage.collect("dvc.yaml")):
        upstream = list(graph.successors(stage))
        yield stage.addressing, stage.changed(allow_missing=True, upstream=upstream)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each stage.

    Raises:
        InputError: a stage is not what dvc.lock says.
    """
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    changed = []
    with in_one_line(), Repo() as repo, lock_repo(repo):
        for name, has_changed in compare(repo):
            found = "changed" if has_changed else "didn't change, skipping"
            sys.stdout.write(f"Stage '{name}' {found}\n")
            if has_changed:
                changed.append(name)
    if changed:
        raise InputError(
            f"dvc.lock is not what dvc repro would write of {', '.join(changed)}: "
            "run dvc repro, then commit dvc.lock and what it changed"
        )
    sys.stdout.write("Data and pipelines are up to date.\n")


if __name__ == "__main__":
    run(main)
