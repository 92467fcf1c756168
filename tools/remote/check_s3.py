"""An S3 server -> findings: endpoint, clock, credentials, bucket."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import URLLib3Session
from dvc.data_cloud import Remote

from tools.remote.finding import Finding, Stopped, fail, ok, warn
from tools.remote.s3_errors import failing

# AWS refuses requests 15 minutes off; a machine that is a minute off is on its way there.
CLOCK_LIMIT, CLOCK_DOUBT = 15 * 60, 60
ANSWER_SECONDS = 10


def check_server(options: Mapping[str, Any], what: str) -> Iterator[Finding]:
    """Yield whether the endpoint answers, the clocks agree and there are credentials."""
    with failing(f"{what}, credentials"):
        session = botocore.session.Session(profile=options.get("profile"))
        keys = _key_in_use(session, options)
    client = options.get("client_kwargs", {})
    with failing(f"{what}, endpoint"):
        url = _url(session, client, f"{what}, endpoint")
    with failing(f"{what}, endpoint", url):
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
        raise Stopped(fail(what, found, advice)) from error


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


def check_bucket(remote: Remote, what: str) -> Finding:
    """Return whether the bucket is there and can be listed."""
    bucket, _, prefix = remote.path.partition("/")
    with failing(f"{what}, bucket"):
        remote.fs.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return ok(f"{what}, bucket", f"{bucket} is there and can be listed")
