"""The remotes of .dvc/config -> findings, from the configuration to the last stored object."""

import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

from dvc.data_cloud import Remote
from dvc.exceptions import DvcException
from dvc.repo import Repo

from src.core.cli import InputError
from tools.remote.check_objects import check_objects
from tools.remote.check_s3 import check_bucket, check_server
from tools.remote.finding import Finding, Level, Stopped, fail, ok, warn
from tools.remote.s3_errors import REMOTE_ERRORS, error_code, explain, failing
from tools.remote.stored_objects import copies, remotes_in_use
from tools.set_remote import SECRETS, WHERE_SECRETS_GO

# refs/exps/<two digits of the base>/<the rest>/<name>; others are DVC's own.
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
_WRITE = ", write"


def check_remotes(repo: Repo, full: bool, build: bool) -> Iterator[Finding]:
    """Yield findings on every remote in use, then on what dvc.lock needs of them.

    With `full`, every remote object is read and hashed; else names, sizes and checksums that the
    server remembers are compared. With `build`, what no one has is going to be built here: no FAIL.
    """
    default = repo.config["core"].get("remote")
    if default is None:
        yield warn("remote", "none is set", "make remote URL=s3://bucket/path")
        return
    reachable = set()
    for name in remotes_in_use(repo, default):
        what = f"remote {name}"
        try:
            yield from _check_configuration(repo, name, what)
            yield from _check_store(_open(repo, name, what), what)
        except Stopped as stopped:
            yield stopped.finding
        except DvcException as error:
            yield fail(what, str(error), "make remote URL=s3://bucket/path")
        else:
            reachable.add(what)
    try:
        wanted = list(copies(repo, default if reachable else None))
    except ImportError:
        return  # found above: a remote that cannot be opened
    yield from check_objects(wanted, reachable, full, build)


def check_read(repo: Repo, name: str) -> None:
    """Check that the remote `name` answers and may be read.

    Raises:
        InputError: it does not, or may not; the message says what to do.
    """
    _demand(_check_opened(repo, name, _check_reading))


def check_push(repo: Repo, name: str) -> None:
    """Check that the remote `name` answers and keeps what is written, by writing a little.

    Raises:
        InputError: it does not; the message says what to do.
    """
    _demand(_check_opened(repo, name, _check_store))


def _check_opened(
    repo: Repo, name: str, check: Callable[[Remote, str], Iterator[Finding]]
) -> Iterator[Finding]:
    what = f"remote {name}"
    yield from check(_open(repo, name, what), what)


def _demand(findings: Iterator[Finding]) -> None:
    """Turn the first finding that is not good enough into an error."""
    try:
        for finding in findings:
            # To the doctor a remote that can only be read is a warning.
            is_write = finding.what.endswith(_WRITE) and finding.level is not Level.OK
            if is_write or finding.level is Level.FAIL:
                raise Stopped(finding)
    except Stopped as stopped:
        bad = stopped.finding
        raise InputError(f"{bad.what}: {bad.found}; {bad.advice}; make doctor says more") from None


def _open(repo: Repo, name: str, what: str) -> Remote:
    try:
        return repo.cloud.get_remote(name)
    except ImportError as error:  # DVC knows the address, and the package for it is not there
        advice = "make remote URL=s3://bucket/path, or add it to requirements.in: make lock"
        raise Stopped(fail(what, str(error), advice)) from error


def _check_configuration(repo: Repo, name: str, what: str) -> Iterator[Finding]:
    tracked = repo.config.read("repo")["remote"].get(name)
    settings = repo.config["remote"].get(name, {})
    if tracked is None and settings:
        yield warn(
            f"{what}, configuration",
            "stands in .dvc/config.local only",
            "dvc exp push and dvc plots diff miss it on other commits: make remote URL=...",
        )
    elif untracked := _commits_without(repo, name):
        yield warn(
            f"{what}, configuration",
            f"stands in .dvc/config, but not in that of {', '.join(untracked[:3])}",
            "git commit .dvc/config; experiments without it are pushed without data, and take "
            "the remote away where they are applied: run them again, on that commit",
        )
    if found := [key for key in SECRETS if key in (tracked or {})]:
        yield fail(
            f"{what}, configuration",
            f".dvc/config holds {found}",
            f"delete them, and change them at the server; {WHERE_SECRETS_GO}",
        )
    if not settings.get("verify"):
        yield warn(
            f"{what}, configuration",
            "a damaged object would be pulled in silence",
            f"dvc remote modify {name} verify true",
        )


def _commits_without(repo: Repo, name: str) -> list[str]:
    """Return which of HEAD and the experiments do not know the remote."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", repo.root_dir, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    commits = {"HEAD": "HEAD"} if git("rev-parse", "HEAD").strip() != "HEAD" else {}
    for ref in git("for-each-ref", "--format=%(refname)", "refs/exps").split():
        if match := EXPERIMENT.fullmatch(ref):
            commits[f"experiment {match[1]}"] = ref
    section = f'remote "{name}"'
    return [who for who, rev in commits.items() if section not in git("show", f"{rev}:.dvc/config")]


def _check_store(remote: Remote, what: str) -> Iterator[Finding]:
    yield from _check_reading(remote, what)
    yield from _check_write(remote, what)


def _check_reading(remote: Remote, what: str) -> Iterator[Finding]:
    if remote.fs.protocol == "s3":
        yield from check_server(remote.fs.fs_args, what)
        yield check_bucket(remote, what)
    yield _check_access(remote, what)


def _check_access(remote: Remote, what: str) -> Finding:
    # Without the right to read, that is the answer, not that nothing is there.
    with failing(f"{what}, read"), suppress(FileNotFoundError):
        remote.fs.cat_file(_probe(remote, secrets.token_bytes(16)))
    return ok(f"{what}, read", "allowed")


def _probe(remote: Remote, token: bytes) -> str:
    return str(remote.fs.join(remote.path, f".doctor-{token.hex()}"))


def _check_write(remote: Remote, what: str) -> Iterator[Finding]:
    """Yield whether an object can be written and deleted, by doing so."""
    fs, token = remote.fs, secrets.token_bytes(16)
    probe = _probe(remote, token)
    try:
        fs.makedirs(fs.parent(probe))
        fs.pipe_file(probe, token)
        same = fs.cat_file(probe) == token
    except REMOTE_ERRORS as error:
        yield _no_write(error, f"{what}{_WRITE}")
        return
    if not same:
        yield fail(
            f"{what}{_WRITE}",
            "what was written comes back changed",
            "something between here and the server alters data: ask its operator",
        )
        return
    yield ok(f"{what}{_WRITE}", "what was written comes back")
    try:
        fs.rm_file(probe)
    except REMOTE_ERRORS as error:
        yield warn(
            f"{what}, delete",
            f"{explain(error).found} ({probe} stays)",
            "dvc push works; dvc gc --cloud is for somebody else",
        )


def _no_write(error: BaseException, what: str) -> Finding:
    explanation = explain(error)
    if isinstance(error, PermissionError) and error_code(error) in ("AccessDenied", "403", None):
        return warn(
            what,
            "not allowed: dvc pull works, dvc push does not",
            "fine for readers; to push, ask for s3:PutObject and s3:DeleteObject",
        )
    return fail(what, explanation.found, explanation.advice)
