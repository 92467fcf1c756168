"""`make doctor` on remotes: where DVC ends in "unexpected error", it says what is wrong."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo

from src.core.cli import InputError
from tests.conftest import Project
from tests.helpers.faulty_proxy import faulty_proxy
from tests.helpers.tiny_remote import cached, client, enter
from tools.doctor import main
from tools.push import push
from tools.remote.check_machine import check_checkout
from tools.remote.check_s3 import check_clock
from tools.remote.finding import Level
from tools.remote.s3_server import Identity, S3Server
from tools.set_remote import set_remote

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
SKEWED = """
import datetime, botocore.compat
now = botocore.compat.get_current_datetime
botocore.compat.get_current_datetime = lambda remove_tzinfo=True: (
    now(remove_tzinfo) + datetime.timedelta(hours=1)
)
"""


def doctor(project: Project, *arguments: str) -> str:
    return project.run("python", "-m", "tools.doctor", "--remote-only", *arguments, check=False)


def failures(printed: str) -> list[str]:
    return re.findall("^FAIL .*", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0, Level.OK), (30, Level.OK), (-300, Level.WARN), (300, Level.WARN), (3600, Level.FAIL)],
)
def test_clocks_may_differ_a_little(seconds: int, level: Level) -> None:
    theirs = datetime.now(UTC) - timedelta(seconds=seconds)
    assert check_clock(format_datetime(theirs, usegmt=True), "clock").level == level


@pytest.mark.slow
def test_without_a_remote_it_says_how_to_set_one(tiny: Project) -> None:
    assert doctor(tiny) == "warn  remote: none is set; make remote URL=s3://bucket/path\n"


@pytest.mark.slow
def test_a_folder_is_a_remote(tiny: Project, tmp_path: Path) -> None:
    said = tiny.run("python", "-m", "tools.set_remote", str(tmp_path / "folder"))
    assert "next: make doctor, git commit .dvc/config, make push\n" in said
    printed = doctor(tiny)
    assert "6 of 6 objects in use are not there yet" in printed
    assert "; make push\n" in printed
    (tmp_path / "folder" / "files").mkdir()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["files"]


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["push", "verify"])
def test_a_broken_pipeline_is_one_line_everywhere(tiny: Project, tmp_path: Path, tool: str) -> None:
    tiny.run("python", "-m", "tools.set_remote", str(tmp_path / "folder"))
    (tiny.folder / "dvc.yaml").write_text("stages:\n  make: [\n b: }\n")
    printed = tiny.run("python", "-m", f"tools.{tool}", check=False)
    assert "Traceback" not in printed
    assert "\nerror: unable to read: 'dvc.yaml'" in f"\n{printed}"
    (failure,) = failures(doctor(tiny))
    assert "unable to read: 'dvc.yaml'" in failure


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("endpointurl", "foo", "endpoint: 'foo' is no address (Invalid endpoint: foo); make"),
        ("endpointurl", "http://[::1", "endpoint: 'http://[::1' is no address (Invalid IPv6"),
        ("url", "gs://bucket", "storage: gs is supported, but requires 'dvc-gs' to be installed;"),
    ],
)
def test_an_address_that_cannot_be_opened_is_one_line(
    tiny: Project,
    setting: str,
    value: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny.environment.update(KEYS)
    enter(tiny, monkeypatch)
    with Repo() as repo:
        set_remote(repo, "storage", "s3://experiments/path", None)
        with repo.config.edit("repo") as document:
            document["remote"]["storage"][setting] = value
    with pytest.raises(SystemExit, match="1"):
        main(["--remote-only"])
    (failure,) = failures(capsys.readouterr().out)
    assert expected in failure
    with Repo() as repo, pytest.raises(InputError) as caught:
        push(repo)
    assert expected in str(caught.value)


@pytest.fixture
def with_folder(tiny: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, which we have entered, with a folder as its remote."""
    enter(tiny, monkeypatch)
    with Repo() as repo:
        set_remote(repo, "storage", str(tmp_path / "folder"), None)
    return tiny


@pytest.mark.slow
def test_one_of_two_remotes_that_cannot_be_opened_is_one_line(
    with_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with Repo() as repo, repo.config.edit("repo") as document:
        document["remote"]["private"] = {"url": "gs://bucket", "verify": "true"}
    text = (with_folder.folder / "dvc.yaml").read_text()
    private = text.replace("data/table.csv]", "data/table.csv: {remote: private}]")
    (with_folder.folder / "dvc.yaml").write_text(private)
    with pytest.raises(SystemExit, match="1"):
        main(["--remote-only"])
    (failure,) = failures(capsys.readouterr().out)
    assert failure.startswith("FAIL  remote private: gs is supported")


@pytest.mark.slow
def test_a_lock_of_an_older_dvc_is_one_line(
    with_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (with_folder.folder / "dvc.lock").read_text()
    (with_folder.folder / "dvc.lock").write_text(text.replace("      hash: md5\n", ""))
    expected = "data/raw: its hash is md5-dos2unix, not md5"
    *_, pipeline = check_checkout(with_folder.folder)
    assert str(pipeline).startswith(f"FAIL  pipeline: {expected}")
    with pytest.raises(SystemExit, match="1"):
        main(["--remote-only"])
    (failure,) = failures(capsys.readouterr().out)
    assert failure.startswith(f"FAIL  remotes: {expected}")


@pytest.mark.slow
def test_without_a_lock_it_does_not_say_that_all_is_there(
    with_folder: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (with_folder.folder / "dvc.lock").unlink()
    with pytest.raises(SystemExit, match="0"):
        main(["--remote-only"])
    expected = "warn  remote storage, objects: dvc.lock names none; git checkout dvc.lock"
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_an_experiment_from_before_the_remote_is_named_until_it_is_run_again(
    tiny: Project, tmp_path: Path
) -> None:
    tiny.run("dvc", "exp", "run", "--quiet", "--name", "early", "--set-param", "length=1000")
    tiny.run("git", "reset", "--quiet", "--hard")
    tiny.run("dvc", "checkout", "--force")
    tiny.run("python", "-m", "tools.set_remote", str(tmp_path / "folder"))
    assert "but not in that of HEAD, experiment early; git commit .dvc/config" in doctor(tiny)
    tiny.commit("Add a remote")
    assert "but not in that of experiment early; git commit" in doctor(tiny)
    tiny.run("dvc", "exp", "remove", "early")
    assert "but not in that of" not in doctor(tiny)


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_without_a_word(tiny: Project) -> None:
    command = "python -m tools.doctor --remote-only --full | head -c 1; echo ${PIPESTATUS[0]}"
    printed = tiny.run("bash", "-c", command)
    assert "Traceback" not in printed
    assert "BrokenPipe" not in printed


@pytest.mark.slow
def test_a_push_to_a_folder_that_cannot_be_made_is_one_line(tiny: Project, tmp_path: Path) -> None:
    tiny.run("python", "-m", "tools.set_remote", str(tmp_path / "file" / "folder"))
    (tmp_path / "file").touch()
    printed = tiny.run("python", "-m", "tools.push", check=False)
    assert printed.startswith("error: remote storage, ")
    assert printed.endswith("; make doctor says more\n")
    assert printed.count("\n") == 1


@pytest.mark.slow
def test_a_push_to_where_nobody_listens_ends_at_once(tiny: Project) -> None:
    endpoint = ("--endpoint", "http://127.0.0.1:9")
    tiny.run("python", "-m", "tools.set_remote", "s3://experiments/path", *endpoint)
    tiny.environment.update(KEYS)
    printed = tiny.run("python", "-m", "tools.push", check=False)
    assert "Traceback" not in printed
    assert "failed to transfer" not in printed  # no object was tried
    expected = "endpoint: no server answers at the endpoint (http://127.0.0.1:9); check"
    assert f"error: remote storage, {expected}" in printed


@pytest.mark.slow
@pytest.mark.s3
def test_a_push_asks_before_it_sends_and_leaves_no_trace_of_that(
    tiny_remote: Project, shared_s3: S3Server, s3_owner: Identity, s3_reader: Identity
) -> None:
    tiny_remote.environment.update(shared_s3.environment(s3_reader))
    refused = tiny_remote.run("python", "-m", "tools.push", check=False)
    assert "error: remote storage, write: not allowed" in refused
    assert "Traceback" not in refused
    tiny_remote.environment.update(shared_s3.environment(s3_owner))
    assert "files pushed" in tiny_remote.run("python", "-m", "tools.push")
    names = object_names(tiny_remote, shared_s3, s3_owner)
    assert not [name for name in names if ".doctor-" in name]


@pytest.mark.slow
@pytest.mark.s3
def test_a_healthy_remote_passes_and_keeps_no_trace(
    tiny_remote: Project, shared_s3: S3Server, s3_owner: Identity
) -> None:
    before = doctor(tiny_remote)
    assert failures(before) == []
    assert "6 of 6 objects in use are not there yet" in before
    tiny_remote.run("dvc", "push")
    after = doctor(tiny_remote, "--full")
    assert [line.split()[0] for line in after.splitlines()] == ["ok"] * 9
    assert f"{shared_s3.endpoint} answers" in after
    assert "owner-secret" not in after
    names = object_names(tiny_remote, shared_s3, s3_owner)
    assert len(names) == 6
    assert not any("doctor" in name for name in names)


@dataclass
class Trouble:
    """One thing wrong, what DVC says of it and what the doctor says."""

    name: str
    dvc: str
    doctor: str
    environment: dict[str, str]
    url: str | None = None
    endpoint: str | None = None
    proxy: Mapping[str, Any] | None = None


TROUBLES = [
    Trouble(
        "wrong secret key",
        "Forbidden",
        "the secret key does not belong to the access key; check AWS_ACCESS_KEY_ID",
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
    ),
    Trouble(
        "unknown access key",
        "Forbidden",
        "the server does not know this access key; check AWS_ACCESS_KEY_ID",
        {"AWS_ACCESS_KEY_ID": "wrong"},
    ),
    Trouble(
        "no credentials",
        "Unable to locate credentials",
        "credentials: none found; export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    ),
    Trouble(
        "half of the credentials",
        "Partial credentials found",
        "only half of a key pair is set",
        {"AWS_SECRET_ACCESS_KEY": ""},
    ),
    Trouble(
        "unknown profile",
        "The config profile (nobody) could not be found",
        "the profile in AWS_PROFILE or .dvc/config does not exist",
        {"AWS_PROFILE": "nobody"},
    ),
    Trouble(
        "missing bucket",
        "The specified bucket does not exist",
        "bucket: the bucket does not exist; create it, or correct the URL",
        {},
        url="s3://no-such-bucket/path",
    ),
    Trouble(
        "dead server",
        "Could not connect to the endpoint URL",
        "endpoint: no server answers at the endpoint (http://127.0.0.1:9); check the endpoint",
        {},
        endpoint="http://127.0.0.1:9",
    ),
    Trouble(
        "https where http is spoken",
        "SSL validation failed",
        "endpoint: no trusted encrypted connection (https://127.0.0.1:",
        {},
        endpoint="https",
    ),
    Trouble(
        "expired token",
        "Bad Request",
        "bucket: the temporary credentials have expired; get new temporary credentials",
        {"AWS_SESSION_TOKEN": "old"},
        proxy={"refusal": (400, "ExpiredToken")},
    ),
    Trouble(
        "server failure",
        "Internal Server Error",
        "bucket: the server failed; wait and repeat",
        {"AWS_MAX_ATTEMPTS": "1"},
        proxy={"refusal": (500, "InternalError")},
    ),
    Trouble(
        "bucket elsewhere",
        "unexpected error",
        "bucket: the bucket is in another region; export AWS_DEFAULT_REGION",
        {},
        proxy={"refusal": (400, "AuthorizationHeaderMalformed")},
    ),
]


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_dvc_ends_in_an_unexpected_error_and_the_doctor_says_what_it_is(
    tiny_remote: Project,
    shared_s3: S3Server,
    trouble: Trouble,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in trouble.environment.items():
        if value:
            tiny_remote.environment[name] = value
        else:
            del tiny_remote.environment[name]
    with contextlib.ExitStack() as stack:
        endpoint = trouble.endpoint
        if endpoint == "https":
            endpoint = shared_s3.endpoint.replace("http:", "https:")
        if trouble.proxy is not None:
            endpoint = stack.enter_context(faulty_proxy(shared_s3.endpoint, **trouble.proxy))
        url = trouble.url or "s3://experiments/path"
        with Repo(str(tiny_remote.folder)) as repo:
            set_remote(repo, "storage", url, endpoint or shared_s3.endpoint)
        enter(tiny_remote, monkeypatch)
        assert dvc(["push"]) != 0
        assert "unexpected error" in caplog.text
        assert trouble.dvc in caplog.text
        with pytest.raises(SystemExit, match="1"):
            main(["--remote-only"])
        (failure,) = failures(capsys.readouterr().out)
    assert trouble.doctor in failure


@pytest.mark.slow
@pytest.mark.s3
def test_a_clock_that_is_off_is_named_and_really_refused(
    tiny_remote: Project, tmp_path: Path
) -> None:
    (tmp_path / "skewed").mkdir()
    (tmp_path / "skewed" / "sitecustomize.py").write_text(SKEWED)
    path = tiny_remote.environment["PYTHONPATH"]
    tiny_remote.environment["PYTHONPATH"] = f"{tmp_path / 'skewed'}{os.pathsep}{path}"
    assert "unexpected error - Forbidden" in tiny_remote.run("dvc", "push", check=False)
    clock, bucket = failures(doctor(tiny_remote))
    assert re.search(r"clock: 36\d\d s ahead of the server; set the clock", clock)
    assert "bucket: this machine's clock differs too much" in bucket


@pytest.mark.slow
@pytest.mark.s3
def test_a_server_whose_clock_is_late_is_named(tiny_remote: Project, shared_s3: S3Server) -> None:
    with faulty_proxy(shared_s3.endpoint, late_seconds=300) as endpoint:
        tiny_remote.run("dvc", "remote", "modify", "storage", "endpointurl", endpoint)
        tiny_remote.run("dvc", "push")
        printed = doctor(tiny_remote)
    assert failures(printed) == []
    assert re.search(r"^warn .*clock: 30\d s ahead of the server", printed, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.s3
def test_a_reader_may_pull_and_is_told_that_push_will_fail(
    tiny_remote: Project, shared_s3: S3Server, s3_reader: Identity
) -> None:
    tiny_remote.run("dvc", "push")
    tiny_remote.environment.update(shared_s3.environment(s3_reader))
    shutil.rmtree(tiny_remote.folder / ".dvc/cache")
    tiny_remote.run("dvc", "pull")
    printed = doctor(tiny_remote)
    assert failures(printed) == []
    assert "write: not allowed: dvc pull works, dvc push does not" in printed
    (tiny_remote.folder / "params.yaml").write_text("length: 1000\n")
    tiny_remote.run("dvc", "repro")
    pushed = tiny_remote.run("dvc", "push", check=False)
    assert "failed to transfer" in pushed
    assert "Access Denied" in pushed


@pytest.mark.slow
@pytest.mark.s3
def test_objects_that_are_lost_short_or_changed_are_found(
    tiny_remote: Project, shared_s3: S3Server, s3_owner: Identity
) -> None:
    tiny_remote.run("dvc", "push")
    s3 = client(shared_s3, s3_owner)
    names = object_names(tiny_remote, shared_s3, s3_owner)
    listing = json.loads(cached(tiny_remote, "*/*.dir")[0].read_text())
    lost, short, changed = (
        next(name for name in names if name.endswith(entry["md5"][2:])) for entry in listing[:3]
    )
    for name, size in ((short, -1), (changed, None)):
        body = s3.get_object(Bucket="experiments", Key=name)["Body"].read()
        s3.put_object(Bucket="experiments", Key=name, Body=b"!" + body[1:size])
    s3.delete_object(Bucket="experiments", Key=lost)
    assert "up to date" in tiny_remote.run("dvc", "push")  # DVC looks at the listing alone
    printed = doctor(tiny_remote)
    assert "1 of 6 objects in use are not there yet" in printed
    assert "1 of 6 objects in use have another size" in failures(printed)[0]
    assert "3 of 6 are not whole" in failures(doctor(tiny_remote, "--full"))[1]
    shutil.rmtree(tiny_remote.folder / ".dvc/cache")
    printed = doctor(tiny_remote)
    assert "1 of 6 objects in use are neither there nor in this cache" in failures(printed)[0]
    assert "have another checksum" in printed


def object_names(project: Project, server: S3Server, owner: Identity) -> list[str]:
    prefix = project.run("dvc", "config", "remote.storage.url").strip().split("/", 3)[3]
    answer = client(server, owner).list_objects_v2(Bucket="experiments", Prefix=prefix)
    return [entry["Key"] for entry in answer["Contents"]]
