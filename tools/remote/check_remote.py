"""The remotes of .dvc/config -> findings, from the configuration to the last stored object."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import URLLib3Session
from dvc.data_cloud import Remote
from dvc.exceptions import DvcException
from dvc.repo import Repo

from src.core.cli import InputError
from tools.remote.check_machine import NO_LOCK
from tools.remote.finding import Finding, Level, fail, ok, warn
from tools.remote.rehash import OK, rehash
from tools.remote.s3_errors import REMOTE_ERRORS, error_code, explain
from tools.remote.stored_objects import CACHE, Copy, copies, remotes_in_use
from tools.set_remote import SECRETS, WHERE_SECRETS_GO

# AWS refuses requests 15 minutes off; a machine that is a minute off is on its way there.
CLOCK_LIMIT, CLOCK_DOUBT = 15 * 60, 60
ANSWER_SECONDS = 10
LOOKUPS = 16
_WRITE = ", write"


class _Stopped(Exception):  # noqa: N818 - no error, the end of a chain of checks
    """Carries the finding that makes the next checks pointless."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@contextmanager
def _failing(what: str, where: str = "") -> Iterator[None]:
    """Turn a failure of the remote into a finding about `what` that ends the chain."""
    try:
        yield
    except REMOTE_ERRORS as error:
        explanation = explain(error)
        found = f"{explanation.found} ({where})" if where else explanation.found
        raise _Stopped(fail(what, found, explanation.advice)) from error


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
        except _Stopped as stopped:
            yield stopped.finding
        except DvcException as error:
            yield fail(what, str(error), "make remote URL=s3://bucket/path")
        else:
            reachable.add(what)
    try:
        wanted = list(copies(repo, default if reachable else None))
    except ImportError:
        return  # found above: a remote that cannot be opened
    yield from _check_objects(wanted, reachable, full, build)


def check_read(repo: Repo, name: str) -> None:
    """Check that the remote `name` answers and may be read.

    Raises:
        InputError: it does not, or may not; the message says what to do.
    """
    _demand(_check_opened(repo, name, _check_reading))


def check_push(repo: Repo, name: str) -> None:
    """Check that the remote `name` answers and keeps what is written, by writing a little.

    Raises:
        InputError: it does not, or an object in use is neither in the cache nor on its remote; the
            message says what to do.
    """
    _demand(_check_opened(repo, name, _check_store))
    _demand(_check_nothing_lost(list(copies(repo, name))))


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
                raise _Stopped(finding)
    except _Stopped as stopped:
        bad = stopped.finding
        raise InputError(f"{bad.what}: {bad.found}; {bad.advice}; make doctor says more") from None


def _open(repo: Repo, name: str, what: str) -> Remote:
    try:
        return repo.cloud.get_remote(name)
    except ImportError as error:  # DVC knows the address, and the package for it is not there
        advice = "make remote URL=s3://bucket/path, or add it to requirements.in: make lock"
        raise _Stopped(fail(what, str(error), advice)) from error


def _check_configuration(repo: Repo, name: str, what: str) -> Iterator[Finding]:
    tracked = repo.config.read("repo")["remote"].get(name)
    settings = repo.config["remote"].get(name, {})
    if tracked is None and settings:
        yield warn(
            f"{what}, configuration",
            "stands in .dvc/config.local only",
            "dvc exp push and dvc plots diff miss it on other commits: make remote URL=...",
        )
    elif found := [key for key in SECRETS if key in (tracked or {})]:
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


def _check_store(remote: Remote, what: str) -> Iterator[Finding]:
    yield from _check_reading(remote, what)
    yield from _check_write(remote, what)


def _check_reading(remote: Remote, what: str) -> Iterator[Finding]:
    if remote.fs.protocol == "s3":
        yield from _check_server(remote.fs.fs_args, what)
        yield _check_bucket(remote, what)
    yield _check_access(remote, what)


def _check_server(options: Mapping[str, Any], what: str) -> Iterator[Finding]:
    """Yield whether the endpoint answers, the clocks agree and there are credentials."""
    with _failing(f"{what}, credentials"):
        session = botocore.session.Session(profile=options.get("profile"))
        keys = _key_in_use(session, options)
    client = options.get("client_kwargs", {})
    with _failing(f"{what}, endpoint"):
        url = _url(session, client, f"{what}, endpoint")
    with _failing(f"{what}, endpoint", url):
        request = AWSRequest(method="HEAD", url=url).prepare()
        connection = URLLib3Session(verify=client.get("verify", True), timeout=ANSWER_SECONDS)
        answer = connection.send(request)
    yield ok(f"{what}, endpoint", f"{url} answers")
    if "Date" in answer.headers:
        yield check_clock(answer.headers["Date"], f"{what}, clock")
    yield ok(f"{what}, credentials", keys)


def _url(session: botocore.session.Session, client: Mapping[str, Any], what: str) -> str:
    try:
        return str(session.create_client("s3", **client).meta.endpoint_url)
    except ValueError as error:  # of botocore or urllib, where it is no address
        found = f"{client.get('endpoint_url', 'AWS_ENDPOINT_URL')!r} is no address ({error})"
        advice = "make remote URL=s3://bucket/path ENDPOINT=http(s)://host[:port]"
        raise _Stopped(fail(what, found, advice)) from error


def check_clock(date: str, what: str) -> Finding:
    """Return whether `date`, the header of an answer just received, is now."""
    # botocore's clock: the one that requests are signed with.
    now = get_current_datetime(remove_tzinfo=False).astimezone(UTC)
    seconds = (now - parsedate_to_datetime(date)).total_seconds()
    found = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server"
    advice = "set the clock (timedatectl set-ntp true): requests 15 minutes off are refused"
    if abs(seconds) >= CLOCK_LIMIT:
        return fail(what, found, advice)
    return warn(what, found, advice) if abs(seconds) >= CLOCK_DOUBT else ok(what, found)


def _key_in_use(session: botocore.session.Session, options: Mapping[str, Any]) -> str:
    if options.get("anon"):
        return "none (anonymous), as .dvc/config says"
    if key := options.get("key"):
        return f"...{key[-4:]}, from .dvc/config.local"
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    key = credentials.get_frozen_credentials().access_key
    kind = "temporary key" if credentials.token else "key"
    return f"{kind} ...{key[-4:]}, from {credentials.method}"


def _check_bucket(remote: Remote, what: str) -> Finding:
    bucket, _, prefix = remote.path.partition("/")
    with _failing(f"{what}, bucket"):
        remote.fs.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return ok(f"{what}, bucket", f"{bucket} is there and can be listed")


def _check_access(remote: Remote, what: str) -> Finding:
    # Who may not read is told so, rather than that nothing is there.
    with _failing(f"{what}, read"), suppress(FileNotFoundError):
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


def _check_objects(
    wanted: list[Copy], reachable: set[str], full: bool, build: bool
) -> Iterator[Finding]:
    """Yield whether the remotes have every object in use, with the right bytes."""
    sizes = {
        copy.oid: copy.fs.size(copy.path)
        for copy in wanted
        if copy.place == CACHE and copy.fs.exists(copy.path)
    }
    for what in sorted(reachable):
        here = [copy for copy in wanted if copy.place == what]
        try:
            with _failing(f"{what}, objects"):
                yield from _compare(here, sizes, build, f"{what}, objects")
                if full:
                    yield _check_bytes(here, f"{what}, bytes")
        except _Stopped as stopped:
            yield stopped.finding
    unreadable = [copy.name for copy in wanted if copy.output.use_cache and copy.is_directory]
    if unreadable and reachable:
        yield warn(
            "directories",
            f"no listing of {', '.join(unreadable)} in cache or remote",
            "their files were not looked at",
        )


def _check_nothing_lost(wanted: list[Copy]) -> Iterator[Finding]:
    """Yield the remotes whose objects in use are neither there nor in the cache."""
    cached = {copy.oid for copy in wanted if copy.place == CACHE and copy.fs.exists(copy.path)}
    for place in sorted({copy.place for copy in wanted if copy.is_remote}):
        here = [copy for copy in wanted if copy.place == place]
        doubtful = [copy for copy in here if copy.oid not in cached]
        with _failing(f"{place}, objects"), ThreadPoolExecutor(LOOKUPS) as pool:
            infos = list(pool.map(_info, doubtful))
        lost = [copy for copy, info in zip(doubtful, infos, strict=True) if info is None]
        if lost:
            yield fail(f"{place}, objects", *_lost(lost, len(here)))


def _lost(lost: list[Copy], count: int) -> tuple[str, str]:
    """Return that these of `count` objects are nowhere, and what to do."""
    return (
        f"{len(lost)} of {count} objects in use are neither there nor in this cache, "
        f"{lost[0].name}",
        "make push where they were built, or bring them back here: make verify REPAIR=1 (from the "
        "workspace) or dvc repro --pull",
    )


def _compare(
    here: list[Copy], sizes: Mapping[str, int], build: bool, what: str
) -> Iterator[Finding]:
    if not here:
        yield warn(what, "dvc.lock names none", NO_LOCK)
        return
    with ThreadPoolExecutor(LOOKUPS) as pool:
        infos = dict(zip(here, pool.map(_info, here), strict=True))
    missing = [copy for copy, info in infos.items() if info is None]
    lost = [copy for copy in missing if copy.oid not in sizes]
    present = [(copy, info) for copy, info in infos.items() if info is not None]
    wrong = [copy for copy, info in present if info["size"] != sizes.get(copy.oid, info["size"])]
    doubtful = [copy for copy, info in present if _other_checksum(copy, info)]
    count = f"of {len(here)} objects in use"
    if lost:
        yield (warn if build else fail)(what, *_lost(lost, len(here)))
    elif missing:
        yield warn(
            what,
            f"{len(missing)} {count} are not there yet, {missing[0].name}",
            "make push; should it find nothing to do: make verify REMOTE=1 REPAIR=1",
        )
    if wrong:
        yield fail(
            what,
            f"{len(wrong)} {count} have another size than in this cache, {wrong[0].name}",
            "make verify REMOTE=1 REPAIR=1",
        )
    elif doubtful:
        yield warn(
            what,
            f"{len(doubtful)} {count} have another checksum, {doubtful[0].name}",
            "damaged, or encrypted by the server: make doctor FULL=1 reads them",
        )
    elif not missing:
        yield ok(what, f"all {len(here)} in use are there")


def _info(copy: Copy) -> dict[str, Any] | None:
    try:
        return dict(copy.fs.info(copy.path))
    except FileNotFoundError:
        return None


def _other_checksum(copy: Copy, info: Mapping[str, Any]) -> bool:
    """Return whether the server remembers another md5; of uploads in parts it remembers none."""
    etag = str(info.get("ETag", "")).strip('"')
    return len(etag) == 32 and etag != copy.oid.removesuffix(".dir")


def _check_bytes(here: list[Copy], what: str) -> Finding:
    bad = [result for result in rehash(here) if result.state != OK]
    if bad:
        return fail(
            what,
            f"{len(bad)} of {len(here)} are not whole, first {bad[0].copy.name}: {bad[0].state}",
            "make verify REMOTE=1 REPAIR=1",
        )
    return ok(what, f"all {len(here)} have the hash of dvc.lock")
