"""`make remote`: what it writes into .dvc/config, and what it refuses."""

from pathlib import Path
from typing import IO

import pytest
from dvc.repo import Repo

from src.core.cli import InputError
from tools.set_remote import check_endpoint, check_url, set_remote


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(str(tmp_path), no_scm=True)


def settings(repo: Repo) -> dict[str, object]:
    with Repo(repo.root_dir) as again:
        return dict(again.config.read("repo")["remote"]["storage"])


def test_the_remote_is_the_default_and_verifies_what_it_gives(repo: Repo) -> None:
    assert set_remote(repo, "storage", "s3://bucket/path/", "http://127.0.0.1:8333")
    assert settings(repo) == {
        "url": "s3://bucket/path",
        "verify": "true",
        "endpointurl": "http://127.0.0.1:8333",
    }
    assert Repo(repo.root_dir).config["core"]["remote"] == "storage"


def test_a_second_time_nothing_changes(repo: Repo) -> None:
    set_remote(repo, "storage", "s3://bucket/path", "http://127.0.0.1:8333")
    before = Path(repo.config.files["repo"]).read_bytes()
    assert not set_remote(repo, "storage", "s3://bucket/path", "http://127.0.0.1:8333")
    assert Path(repo.config.files["repo"]).read_bytes() == before


def test_another_address_replaces_the_endpoint_and_keeps_the_rest(repo: Repo) -> None:
    set_remote(repo, "storage", "s3://bucket/path", "http://127.0.0.1:8333")
    with repo.config.edit("repo") as document:
        document["remote"]["storage"]["region"] = "eu-west-1"
    set_remote(repo, "storage", "s3://other", None)
    assert settings(repo) == {"url": "s3://other", "verify": "true", "region": "eu-west-1"}


def test_a_folder_is_meant_from_the_repository(repo: Repo, tmp_path: Path) -> None:
    set_remote(repo, "storage", "../shared", None)
    with Repo(repo.root_dir) as again:
        assert Path(again.cloud.get_remote("storage").path) == tmp_path.parent / "shared"


@pytest.mark.parametrize("bucket", ["My_Bucket", "my_bucket", "Bucket", "-bucket-"])
def test_a_bucket_of_an_old_name_is_a_warning(
    caplog: pytest.LogCaptureFixture, bucket: str
) -> None:
    check_url(f"s3://{bucket}/path")
    assert f"no new bucket of the name '{bucket}'" in caplog.text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://key:hidden@bucket/path", "credentials come from the environment"),
        ("s3://bucket/path?X-Amz-Signature=hidden", "credentials come from the environment"),
        ("s3:///path", "not a bucket name"),
        ("s3://b(1)/path", "not a bucket name"),
        ("s3://ab/path", "not a bucket name"),
        ("gs://bucket", "gs:// is not known here"),
        ("", "expected s3://bucket/path or a folder"),
        (__file__, "expected s3://bucket/path or a folder"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_secrets(url: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        check_url(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        ("s3://bucket", "http://key:hidden@host", "holds credentials"),
        ("s3://bucket", "http://key:hid/hidden@host", "holds credentials"),
        ("s3://bucket", "http://host:9000/?token=hidden", r"holds more than http\(s\)"),
        ("s3://bucket", "http://host:9000#hidden", r"holds more than http\(s\)"),
        ("s3://bucket", "http://host:hidden", "host and port cannot be read"),
        ("s3://bucket", "http://host:99999", "from 0 to 65535"),
        ("s3://bucket", "http://[hidden", "host and port cannot be read"),
        ("s3://bucket", "host:8333", r"expected http\(s\)"),
        ("s3://bucket", "http://host/path", "without a path"),
        ("folder", "http://host", "of no use with the folder"),
    ],
)
def test_a_wrong_endpoint_is_refused(url: str, endpoint: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        check_endpoint(url, endpoint)
    assert "hidden" not in str(caught.value)


def test_secrets_in_the_tracked_configuration_are_refused(repo: Repo) -> None:
    with repo.config.edit("repo") as document:
        document["remote"]["storage"] = {"url": "s3://b-c-d", "secret_access_key": "hidden"}
    before = Path(repo.config.files["repo"]).read_bytes()
    with pytest.raises(InputError, match="secret_access_key") as caught:
        set_remote(repo, "storage", "s3://bucket", None)
    assert "hidden" not in str(caught.value)
    assert Path(repo.config.files["repo"]).read_bytes() == before


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("/home/jürgen/store", None),
        ("s3://bucket/données", None),
        ("s3://bucket", "http://höst"),
        ("日本", None),
    ],
)
def test_what_dvc_cannot_write_is_refused_before_anything_is_opened(
    repo: Repo, url: str, endpoint: str | None
) -> None:
    set_remote(repo, "storage", "s3://bucket", None)
    path = Path(repo.config.files["repo"])
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"ASCII|http\(s\)"):
        set_remote(repo, "storage", url, endpoint)
    assert path.read_bytes() == before


def test_whatever_goes_wrong_while_it_is_written_the_configuration_stays(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_remote(repo, "storage", "s3://bucket", None)
    path = Path(repo.config.files["repo"])
    before = path.read_bytes()

    def fill_the_disk(_config: object, _file: IO[bytes]) -> None:
        assert path.read_bytes() == b""  # what DVC does
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("configobj.ConfigObj.write", fill_the_disk)
    with pytest.raises(OSError, match="No space"):
        set_remote(repo, "storage", "s3://other", None)
    assert path.read_bytes() == before


def test_an_unencrypted_endpoint_elsewhere_is_named(caplog: pytest.LogCaptureFixture) -> None:
    check_endpoint("s3://bucket", "http://storage.example.org")
    assert "not encrypted" in caplog.text
