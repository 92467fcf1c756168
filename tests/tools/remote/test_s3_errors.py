"""Every failure of a remote has plain words and an advice."""

import errno
import ssl

import pytest
from botocore import exceptions as boto
from dvc.exceptions import DvcException
from s3fs.errors import ERROR_CODE_TO_EXCEPTION, translate_boto_error

from src.core.cli import InputError
from tools.remote.s3_errors import CODES, error_code, explain, in_one_line


def refusal(code: str) -> BaseException:
    """What s3fs raises when the server answers with `code`."""
    answer = {"Error": {"Code": code, "Message": "said so"}}
    translated: BaseException = translate_boto_error(boto.ClientError(answer, "PutObject"))
    return translated


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_refusal_is_explained_by_its_code(code: str) -> None:
    assert error_code(refusal(code)) == code
    assert explain(refusal(code)) == CODES[code]


@pytest.mark.parametrize("code", sorted(set(ERROR_CODE_TO_EXCEPTION) - set(CODES)))
def test_a_rare_refusal_keeps_its_code_and_words(code: str) -> None:
    assert code in explain(refusal(code)).found
    assert "said so" in explain(refusal(code)).found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.NoCredentialsError(), "none found"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), "half of a key pair"),
        (boto.ProfileNotFound(profile="x"), "profile"),
        (boto.NoRegionError(), "no region"),
        (boto.EndpointConnectionError(endpoint_url="x"), "no server answers"),
        (boto.ConnectTimeoutError(endpoint_url="x"), "no server answers"),
        (boto.ReadTimeoutError(endpoint_url="x"), "connection failed"),
        (boto.ConnectionClosedError(endpoint_url="x"), "hung up"),
        (boto.SSLError(endpoint_url="x", error="y"), "encrypted"),
        (boto.SSOTokenLoadError(error_msg="x"), "single sign-on"),
        (boto.UnauthorizedSSOTokenError(), "single sign-on"),
        (ssl.SSLError("x"), "encrypted"),
        (TimeoutError(), "no server answers"),
        (ConnectionRefusedError(), "no server answers"),
        (OSError(errno.ENOSPC, "x"), "disk is full"),
        (OSError(errno.EDQUOT, "x"), "quota"),
        (OSError(errno.EFBIG, "x"), "this size"),
        (OSError(errno.EROFS, "x"), "read-only"),
        (PermissionError(errno.EACCES, "x"), "may not do this"),
    ],
)
def test_other_failures_are_explained(error: Exception, expected: str) -> None:
    assert expected in explain(error).found
    assert explain(error).advice


def test_what_is_not_known_is_given_as_it_is() -> None:
    assert explain(OSError("strange")).found == "OSError: strange"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DvcException("it is broken\nin many lines"), "it is broken; make doctor"),
        (DvcException(" "), "DvcException; make doctor"),
        (refusal("NoSuchBucket"), "the bucket does not exist (said so); create it"),
        (boto.ClientError({"Error": {"Code": "503"}}, "PutObject"), "the server is overloaded ("),
        (boto.EndpointConnectionError(endpoint_url="http://x"), 'endpoint URL: "http://x"'),
        (OSError("strange"), "OSError: strange; docs/remote.md"),
    ],
)
def test_a_failure_is_one_line_that_names_the_doctor(error: Exception, expected: str) -> None:
    with pytest.raises(InputError) as caught, in_one_line():
        raise error
    assert expected in str(caught.value)
    assert str(caught.value).endswith("; make doctor says more")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [InputError("as it is"), KeyError("a bug"), TypeError("a bug")])
def test_what_is_no_failure_of_a_remote_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, in_one_line():
        raise error
    assert caught.value is error
