"""What dvc.lock names, here and on the remotes -> findings."""

from collections.abc import Iterator, Sequence

from tools.remote.check_machine import NO_LOCK
from tools.remote.finding import Finding, Stopped, fail, ok, warn
from tools.remote.rehash import OK, rehash
from tools.remote.s3_errors import failing
from tools.remote.stored_objects import CACHE, WORKSPACE, Copy, Inventory, cached_sizes

REPAIR = "make verify REMOTE=1 REPAIR=1"


def check_objects(
    wanted: Sequence[Copy], reachable: set[str], full: bool, build: bool
) -> Iterator[Finding]:
    """Yield whether the remotes have every object in use and, if `full`, every byte is right."""
    sizes = cached_sizes(wanted)
    for place in sorted(reachable):
        here = [copy for copy in wanted if copy.place == place]
        try:
            with failing(f"{place}, objects"):
                yield from _compare(Inventory.take(here, sizes), build, f"{place}, objects")
                if full:
                    yield _check_bytes(here, f"{place}, bytes", REPAIR)
        except Stopped as stopped:
            yield stopped.finding
    unreadable = [copy.name for copy in wanted if copy.output.use_cache and copy.is_directory]
    if unreadable and reachable:
        found = f"no listing of {', '.join(unreadable)} in cache or remote"
        yield warn("directories", found, "their files were not looked at")
    if full:
        here = [copy for copy in wanted if copy.place in (WORKSPACE, CACHE)]
        yield _check_bytes(here, "workspace and cache, bytes", "make verify, which names them")


def describe_lost(inventory: Inventory) -> tuple[str, str]:
    """Return that objects are nowhere, and what to do."""
    lost, count = inventory.lost, len(inventory.wanted)
    return (
        f"{len(lost)} of {count} objects in use are neither there nor in this cache, "
        f"{lost[0].name}",
        "make push where they were built, or bring them back here: make verify REPAIR=1 (from the "
        "workspace) or dvc repro --pull",
    )


def _compare(inventory: Inventory, build: bool, what: str) -> Iterator[Finding]:
    if not inventory.wanted:
        yield warn(what, "dvc.lock names none", NO_LOCK)
        return
    missing, resized, doubtful = inventory.missing, inventory.resized, inventory.doubtful
    count = f"of {len(inventory.wanted)} objects in use"
    if inventory.lost:
        yield (warn if build else fail)(what, *describe_lost(inventory))
    elif missing:
        found = f"{len(missing)} {count} are not there yet, {missing[0].name}"
        yield warn(what, found, "make push")
    if resized:
        found = f"{len(resized)} {count} have another size than in this cache, {resized[0].name}"
        yield fail(what, found, REPAIR)
    elif doubtful:
        found = f"{len(doubtful)} {count} have another checksum, {doubtful[0].name}"
        advice = "damaged, or encrypted by the server: make doctor FULL=1 reads them"
        yield warn(what, found, advice)
    elif not missing:
        yield ok(what, f"all {len(inventory.wanted)} in use are there")


def _check_bytes(here: Sequence[Copy], what: str, advice: str) -> Finding:
    bad = [result for result in rehash(here) if result.state != OK]
    if not bad:
        return ok(what, f"all {len(here)} have the hash of dvc.lock")
    first = f"first {bad[0].copy.name}: {bad[0].state}"
    return fail(what, f"{len(bad)} of {len(here)} are not whole, {first}", advice)
