"""Damaged copies + whole copies -> the damaged ones replaced, nothing deleted."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from tqdm import tqdm

from src.command import InputError
from src.files import replacing
from tools.explain import REMOTE_ERRORS, explain
from tools.objects import CACHE, WORKSPACE, Copy
from tools.rehash import DAMAGED, MISSING, OK, UNEXPECTED, Result

logger = logging.getLogger("verify")


def repair(results: Sequence[Result], repo: Repo, aside: Path) -> None:
    """Put whole bytes where `results` found none, from wherever they found them whole.

    Stored objects are replaced in one step by bytes that were hashed again on the way. Files of the
    workspace that differ are moved below `aside`, then checked out from the cache. What cannot
    be mended is logged.
    """
    whole: dict[str, Copy] = {}
    # This disk first, the remote last: in the order of what reading costs.
    for result in sorted(results, key=lambda result: _cost(result.copy)):
        if result.state == OK and not _is_directory(result.copy):
            whole.setdefault(result.copy.oid, result.copy)
    bad = [each.copy for each in results if each.state in (DAMAGED, MISSING)]
    stored = [copy for copy in bad if copy.place != WORKSPACE]
    for copy in tqdm(stored, desc="repair", unit="object", disable=None):
        _replace(copy, whole.get(copy.oid))
    _restore_workspace(results, repo, aside)


def _is_directory(copy: Copy) -> bool:
    return copy.place == WORKSPACE and copy.oid.endswith(".dir")


def _cost(copy: Copy) -> int:
    return {CACHE: 0, WORKSPACE: 1}.get(copy.place, 2)


def _replace(bad: Copy, source: Copy | None) -> None:
    if source is None:
        logger.error("%s: no whole copy anywhere that was looked at", bad)
        return
    try:
        if bad.place == CACHE or bad.fs.protocol == "local":
            with replacing(Path(bad.path)) as temporary:
                _fetch(source, temporary)
                temporary.chmod(0o444)
        else:
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder, "object")
                _fetch(source, temporary)
                bad.fs.put_file(str(temporary), bad.path)
    except REMOTE_ERRORS as error:
        logger.error("%s: not repaired: %s; %s", bad, explain(error).found, explain(error).advice)
    else:
        logger.info("%s: repaired from %s", bad, source.place)


def _fetch(source: Copy, target: Path) -> None:
    source.fs.get_file(source.path, str(target))
    with target.open("rb") as file:
        fetched = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
    if fetched.hexdigest() != source.oid.removesuffix(".dir"):
        raise InputError(f"{source} changed while it was read: repeat")


def _restore_workspace(results: Sequence[Result], repo: Repo, aside: Path) -> None:
    targets = set()
    for result in results:
        copy = result.copy
        if copy.place != WORKSPACE or result.state not in (DAMAGED, MISSING, UNEXPECTED):
            continue
        if not copy.output.use_cache:
            logger.error("%s: Git keeps it, not DVC: git checkout -- %s", copy, copy.name)
            continue
        targets.add(str(copy.output))
        if result.state != MISSING:
            kept = aside / copy.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            Path(copy.path).replace(kept)
            logger.info("%s: what stood there is now %s", copy.name, kept)
    try:
        if targets:
            repo.checkout(sorted(targets), force=True)
    except DvcException as error:
        logger.error("not checked out: %s", error)
