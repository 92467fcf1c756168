"""A failure of the remote -> what is wrong and what to do, in plain words."""

import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto
from dvc.exceptions import DvcException

from src.core.cli import InputError
from tools.remote.finding import Stopped, fail

# What reading or writing a remote may raise: s3fs turns the server's refusals into OSError and
# lets botocore's own exceptions (no credentials, no connection) through.
REMOTE_ERRORS = (OSError, boto.BotoCoreError)


@dataclass(frozen=True)
class Explanation:
    """What happened and the cure."""

    found: str
    advice: str


_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_RENEW = (
    "get new temporary credentials and export all three of AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN (or `aws sso login`)"
)
_REGION = "export AWS_DEFAULT_REGION=<the bucket's region>"
_SERVER = "wait and repeat; if it stays, its operator must look (a full disk is the usual cause)"
_LISTING = "ask for s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket"
_UNKNOWN = "docs/remote.md lists what is known; the server's log may say more"
_CONNECT = "check the endpoint in .dvc/config, that the server runs (`make s3`), VPN and proxy"

# Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_SKEWED = Explanation(
    "this machine's clock differs too much from the server's",
    "set the clock (timedatectl set-ntp true)",
)
_DENIED = Explanation("the server knows the credentials but does not allow this", _LISTING)
_ELSEWHERE = Explanation("the bucket is in another region", _REGION)
_BUSY = Explanation("the server is overloaded", "repeat, with fewer jobs: `dvc push -j 2`")
_FAILED = Explanation("the server failed", _SERVER)
_EXPIRED = Explanation("the temporary credentials have expired", _RENEW)
CODES = {
    "InvalidAccessKeyId": Explanation("the server does not know this access key", _KEYS),
    "SignatureDoesNotMatch": Explanation("the secret key does not belong to the access key", _KEYS),
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": Explanation("the session token is not valid for this server", _RENEW),
    "RequestTimeTooSkewed": _SKEWED,
    "RequestExpired": _SKEWED,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": Explanation("the server refuses, and does not say why", _KEYS),
    "NoSuchBucket": Explanation(
        "the bucket does not exist", "create it, or correct the URL: make remote URL=s3://..."
    ),
    "InvalidBucketName": Explanation(
        "the bucket's name is not allowed", "correct the URL: make remote URL=s3://..."
    ),
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "301": _ELSEWHERE,
    "SlowDown": _BUSY,
    "RequestTimeout": _BUSY,
    "ServiceUnavailable": _BUSY,
    "503": _BUSY,
    "InternalError": _FAILED,
    "500": _FAILED,
    "QuotaExceeded": Explanation(
        "the bucket's quota is used up",
        'have it raised, or free space: docs/remote.md, "Free space"',
    ),
    "InvalidObjectState": Explanation(
        "the object is in an archive storage class",
        "restore it, and keep the bucket out of archive rules",
    ),
}

_NUMBERS = {
    errno.ENOSPC: Explanation("the disk is full", 'free space: docs/remote.md, "Free space"'),
    errno.EDQUOT: Explanation("your disk quota is used up", "free space, or have it raised"),
    errno.EFBIG: Explanation("files of this size are not allowed here", "see `ulimit -f`"),
    errno.EROFS: Explanation("the file system is read-only", "mount it for writing"),
    errno.EACCES: Explanation("this user may not do this", "ask for access to the folder"),
    errno.EPERM: Explanation("this user may not do this", "ask for access to the folder"),
    errno.EIO: Explanation("the disk fails", "copy what is left elsewhere and replace the disk"),
}

_TYPES: dict[type[Exception], Explanation] = {
    boto.NoCredentialsError: Explanation(
        "none found", "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    ),
    boto.PartialCredentialsError: Explanation("only half of a key pair is set", _KEYS),
    boto.ProfileNotFound: Explanation(
        "the profile in AWS_PROFILE or .dvc/config does not exist",
        "add it to ~/.aws/config, or name another",
    ),
    boto.NoRegionError: Explanation("no region is set", "export AWS_DEFAULT_REGION=..."),
    boto.SSOTokenLoadError: Explanation("the single sign-on has expired", "aws sso login"),
    boto.UnauthorizedSSOTokenError: Explanation("the single sign-on has expired", "aws sso login"),
    boto.TokenRetrievalError: Explanation("the single sign-on has expired", "aws sso login"),
    boto.SSLError: Explanation(
        "no trusted encrypted connection",
        "http:// or https://? For a certificate of your own: dvc remote modify storage "
        "ssl_verify /path/to/ca.pem",
    ),
    boto.EndpointConnectionError: Explanation("no server answers at the endpoint", _CONNECT),
    boto.ConnectTimeoutError: Explanation("no server answers at the endpoint", _CONNECT),
    boto.ConnectionClosedError: Explanation("the server hung up", _SERVER),
    boto.HTTPClientError: Explanation("the connection failed", _CONNECT),
    ssl.SSLError: Explanation(
        "no trusted encrypted connection", "http:// or https://? Check the endpoint in .dvc/config"
    ),
    TimeoutError: Explanation("no server answers at the endpoint", _CONNECT),
    ConnectionError: Explanation("no server answers at the endpoint", _CONNECT),
}


def error_code(error: BaseException) -> str | None:
    """Return the S3 error code behind `error`, such as `NoSuchBucket`, or None."""
    for each in (error, error.__cause__):
        if isinstance(each, boto.ClientError):
            return str(each.response["Error"]["Code"])
    return None


def explain(error: BaseException) -> Explanation:
    """Return `error` in plain words; one that is not known is given as it is."""
    if (code := error_code(error)) is not None:
        return CODES.get(code, Explanation(f"{code}: {error}", _UNKNOWN))
    for kind, explanation in _TYPES.items():
        if isinstance(error, kind):
            return explanation
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return _NUMBERS[error.errno]
    return Explanation(f"{type(error).__name__}: {error}", _UNKNOWN)


@contextmanager
def failing(what: str, where: str = "") -> Iterator[None]:
    """Turn a failure of the remote into a finding about `what` that ends a chain of checks."""
    try:
        yield
    except REMOTE_ERRORS as error:
        explanation = explain(error)
        found = f"{explanation.found} ({where})" if where else explanation.found
        raise Stopped(fail(what, found, explanation.advice)) from error


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn a failure of DVC or of a remote into one line; a bug of ours keeps its traceback.

    Raises:
        InputError: DVC or the remote failed; the message says what happened.
    """
    try:
        yield
    except DvcException as error:
        raise InputError(f"{first_line(error)}; make doctor says more") from error
    except (*REMOTE_ERRORS, boto.ClientError) as error:
        explanation = explain(error)
        found = explanation.found
        if first_line(error) not in found:  # it names the file or the address
            found = f"{found} ({first_line(error)})"
        raise InputError(f"{found}; {explanation.advice}; make doctor says more") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what `error` says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
