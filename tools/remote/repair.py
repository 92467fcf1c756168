"""Damaged copies + whole copies -> the damaged ones replaced, nothing of the user's deleted."""

import logging
from collections.abc import Sequence
from pathlib import Path

from dvc_objects.fs.generic import transfer

from src.core.files import replacing
from tools.remote.rehash import DAMAGED, MISSING, OK, UNEXPECTED, Result
from tools.remote.s3_errors import explain
from tools.remote.stored_objects import CACHE, NOTHING, WORKSPACE, Copy
from tools.remote.transport import send_all

logger = logging.getLogger("verify")


def repair(results: Sequence[Result], aside: Path) -> int:
    """Put whole bytes where `results` found none; return in how many places.

    They come from wherever `results` found them whole. Stored objects are replaced in one step by
    bytes that were hashed again on the way. Files of the workspace that differ are moved into a new
    folder below `aside`, and only where the cache has what belongs there. What cannot be repaired
    is logged.
    """
    whole: dict[str, Copy] = {}
    # This disk first, the remote last: in the order of what reading costs.
    for result in sorted(results, key=lambda result: _cost(result.copy)):
        if result.state == OK and not result.copy.is_directory:
            whole.setdefault(result.copy.oid, result.copy)
    bad = [each.copy for each in results if each.state in (DAMAGED, MISSING)]
    stored = [copy for copy in bad if copy.place != WORKSPACE]
    if lost := [copy for copy in stored if copy.oid not in whole]:
        text = "%d objects have no whole copy anywhere that was looked at, first %s"
        logger.error(text, len(lost), lost[0])
    pairs = [(whole[copy.oid], copy) for copy in stored if copy.oid in whole]
    failures = send_all(pairs, "repair")
    for copy, reason in failures:
        logger.error("%s: not repaired: %s", copy, reason)
    failed = {copy for copy, _ in failures}
    repaired = [(source, copy) for source, copy in pairs if copy not in failed]
    for source, copy in repaired:
        logger.info("%s: repaired from %s", copy, source.place)
    cached = {each.copy.path for each in results if each.copy.place == CACHE and each.state == OK}
    cached |= {copy.path for _, copy in repaired if copy.place == CACHE}
    return len(repaired) + _restore_workspace(results, cached, aside)


def _cost(copy: Copy) -> int:
    return {CACHE: 0, WORKSPACE: 1}.get(copy.place, 2)


def _restore_workspace(results: Sequence[Result], cached: set[str], aside: Path) -> int:
    """Put files of the workspace right, those of `cached`, whole objects; return how many."""
    wrong = [
        each.copy
        for each in results
        if each.copy.place == WORKSPACE and each.state in (DAMAGED, MISSING, UNEXPECTED)
    ]
    for copy in wrong:
        if not copy.output.use_cache:
            logger.error("%s: Git keeps it, not DVC: git checkout -- %s", copy, copy.name)
    # The files of a directory whose listing has only now come back: the next time.
    repairable = [
        copy
        for copy in wrong
        if copy.output.use_cache
        and not copy.is_directory
        and (copy.oid == NOTHING or _object(copy) in cached)
    ]
    if not repairable:
        return 0
    folder = _new_folder(aside)
    repaired = sum(_restore(copy, folder) for copy in repairable)
    if not any(folder.iterdir()):
        folder.rmdir()
    return repaired


def _object(copy: Copy) -> str:
    return str(copy.output.cache.oid_to_path(copy.oid))


def _new_folder(parent: Path) -> Path:
    """Return a numbered folder of `parent` that was not there: it holds nothing to overwrite."""
    number = 1
    while (folder := parent / str(number)).exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def _restore(copy: Copy, folder: Path) -> bool:
    """Put what the cache has at `copy`, if anything belongs there; return whether it worked.

    `dvc checkout` is not asked: where one file of a directory fails, it deletes the directory.
    """
    try:
        if copy.oid == NOTHING:
            _put_aside(copy, folder)
            return True
        cache = copy.output.cache
        with replacing(Path(copy.path)) as temporary:
            links = [*cache.cache_types]  # those that do not work here are taken out
            transfer(cache.fs, _object(copy), copy.fs, str(temporary), links=links)
            _put_aside(copy, folder)
    except OSError as error:
        logger.error("%s: not repaired: %s; %s", copy, explain(error).found, explain(error).advice)
        return False
    logger.info("%s: repaired from %s", copy, CACHE)
    return True


def _put_aside(copy: Copy, folder: Path) -> None:
    path, kept = Path(copy.path), folder / copy.name
    if path.exists() or path.is_symlink():
        kept.parent.mkdir(parents=True, exist_ok=True)
        path.rename(kept)
        logger.info("%s: what stood there is now %s", copy.name, kept)
