"""What happens to the data when servers die, disks fill and colleagues push at the same moment."""

import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.conftest import Project
from tests.helpers.tiny_remote import cached, client, enter, outputs
from tools.remote.rehash import OK
from tools.remote.s3_server import Identity, S3Server
from tools.set_remote import set_remote
from tools.verify import verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.s3,
    # DVC calls something that a library of its own deprecates.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
]

FILES = 30
ROUNDS = 5


@pytest.fixture
def many(tiny: Project, s3_server: S3Server, s3_owner: Identity) -> Project:
    """A project with many objects to transfer, on a server of its own that may be killed."""
    folder = tiny.folder / "many"  # not below data/, which Git ignores
    folder.mkdir()
    draw = random.Random(0)
    for number in range(FILES):
        (folder / f"{number:02}.bin").write_bytes(draw.randbytes(200_000))
    tiny.run("dvc", "add", "--quiet", "many")
    tiny.environment.update(s3_server.environment(s3_owner))
    point(tiny, "s3://experiments/start", s3_server)
    return tiny


def point(project: Project, url: str, server: S3Server) -> None:
    with Repo(str(project.folder)) as repo:
        set_remote(repo, "storage", url, server.endpoint)


def whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether workspace, cache and remote hold every object, read to the last byte."""
    enter(project, monkeypatch)
    with Repo() as repo:
        return all(result.state == OK for result in verify(repo, "storage"))


def interrupt(
    project: Project, server: S3Server, command: str, count: Callable[[], int], at: int
) -> bool:
    """Kill the server once `count` reaches `at`; return whether the command was still at work."""
    process = subprocess.Popen(
        ["dvc", command, "-j", "2"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while count() < at and process.poll() is None:
        time.sleep(0.005)
    server.kill()
    at_work = process.poll() is None
    server.start()
    process.wait(timeout=300)
    return at_work


def points() -> Iterator[int]:
    draw = random.Random(6)
    return (draw.randrange(1, FILES - 8) for _ in range(ROUNDS))


def test_a_server_killed_while_pushing_loses_nothing(
    many: Project, s3_server: S3Server, s3_owner: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client(s3_server, s3_owner)
    struck = 0
    for turn, at in enumerate(points()):
        point(many, f"s3://experiments/push-{turn}", s3_server)

        def stored(prefix: str = f"push-{turn}/") -> int:
            answer = s3.list_objects_v2(Bucket="experiments", Prefix=prefix)
            return int(answer["KeyCount"])

        struck += interrupt(many, s3_server, "push", stored, at)
        many.run("dvc", "push")
        assert whole(many, monkeypatch)
    assert struck >= ROUNDS - 1


def test_a_server_killed_while_pulling_loses_nothing(
    many: Project, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    many.run("dvc", "push")
    expected = outputs(many)
    struck = 0
    for at in points():
        shutil.rmtree(many.folder / ".dvc/cache/files")
        shutil.rmtree(many.folder / "many")
        shutil.rmtree(many.folder / "data/raw")
        struck += interrupt(many, s3_server, "pull", lambda: len(cached(many)), at)
        many.run("dvc", "pull")
        assert outputs(many) == expected
        many.run("dvc", "repro", "--quiet")  # the metric's cached copy, which no remote has
    assert struck >= ROUNDS - 1
    assert whole(many, monkeypatch)


def kill(project: Project, tool: str, count: Callable[[], int], at: int) -> bool:
    """Kill `make <tool>` once `count` reaches `at`; return whether it was still at work."""
    process = subprocess.Popen(
        ["python", "-m", f"tools.{tool}"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while count() < at and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    return process.wait(timeout=60) != 0


def test_a_push_that_is_killed_is_completed_by_the_next(
    many: Project, s3_server: S3Server, s3_owner: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client(s3_server, s3_owner)
    struck = 0
    for turn, at in enumerate((1, 12, 25)):
        point(many, f"s3://experiments/killed-{turn}", s3_server)

        def stored(prefix: str = f"killed-{turn}/files") -> int:
            answer = s3.list_objects_v2(Bucket="experiments", Prefix=prefix)
            return int(answer["KeyCount"])

        struck += kill(many, "push", stored, at)
        assert "INFO push: " in many.run("python", "-m", "tools.push")
        assert whole(many, monkeypatch)
        assert "INFO push: 0 files pushed" in many.run("python", "-m", "tools.push")
    assert struck >= 2


def test_a_pull_that_is_killed_is_completed_by_the_next(many: Project) -> None:
    many.run("python", "-m", "tools.push")
    expected = outputs(many)
    struck = 0
    for at in (1, 12, 25):
        shutil.rmtree(many.folder / ".dvc/cache/files")
        shutil.rmtree(many.folder / "many")
        shutil.rmtree(many.folder / "data/raw")
        struck += kill(many, "pull", lambda: len(cached(many)), at)
        assert "the workspace is complete" in many.run("python", "-m", "tools.pull")
        assert outputs(many) == expected
    assert struck >= 2


def test_a_full_disk_is_named_and_a_second_pull_completes(
    tiny_remote: Project, tmp_path: Path
) -> None:
    tiny_remote.run("dvc", "push")
    shutil.rmtree(tiny_remote.folder / ".dvc/cache")
    expected = outputs(tiny_remote)
    shutil.rmtree(tiny_remote.folder / "data/raw")
    (tiny_remote.folder / ".dvc/cache").mkdir()
    # A disk of one megabyte that only this script sees.
    script = tmp_path / "full.sh"
    script.write_text(
        "mount -t tmpfs -o size=1m tmpfs .dvc/cache\n"
        "dvc pull; echo exit $?\n"
        "python -m tools.verify; echo verified $?\n"
        "mount -o remount,size=50m .dvc/cache\n"
        "dvc pull; echo exit $?\n"
        "cp -r .dvc/cache/files .dvc/kept\n"
    )
    printed = tiny_remote.run("unshare", "--mount", "--map-root-user", "bash", str(script))
    first, second = printed.split("verified")
    assert "No space left on device" in first
    assert "exit 0" not in first
    assert "DAMAGED" not in first
    assert "exit 0" in second
    shutil.rmtree(tiny_remote.folder / ".dvc/cache")
    (tiny_remote.folder / ".dvc/cache").mkdir()
    (tiny_remote.folder / ".dvc/kept").rename(tiny_remote.folder / ".dvc/cache/files")
    assert outputs(tiny_remote) == expected


def test_two_clones_push_at_once_and_both_are_whole(
    tiny_remote: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_remote.folder, tmp_path / "other", symlinks=True)
    other = Project(tmp_path / "other", tiny_remote.environment)
    (other.folder / "params.yaml").write_text("length: 200000\n")
    other.run("dvc", "repro", "--quiet")
    pushes = [
        subprocess.Popen(
            ["dvc", "push"], cwd=each.folder, env=each.environment, stdout=subprocess.DEVNULL
        )
        for each in (tiny_remote, other)
    ]
    assert [push.wait(timeout=300) for push in pushes] == [0, 0]
    assert whole(tiny_remote, monkeypatch)
    assert whole(other, monkeypatch)


def test_a_damaged_remote_object_is_refused_by_pull(
    tiny_remote: Project, shared_s3: S3Server, s3_owner: Identity
) -> None:
    tiny_remote.run("dvc", "push")
    entry = json.loads(cached(tiny_remote, "*/*.dir")[0].read_text())[0]
    s3 = client(shared_s3, s3_owner)
    answer = s3.list_objects_v2(Bucket="experiments", Prefix=tiny_remote.folder.parent.name)
    key = next(each["Key"] for each in answer["Contents"] if each["Key"].endswith(entry["md5"][2:]))
    body = s3.get_object(Bucket="experiments", Key=key)["Body"].read()
    s3.put_object(Bucket="experiments", Key=key, Body=b"!" + body[1:])
    shutil.rmtree(tiny_remote.folder / ".dvc/cache")
    shutil.rmtree(tiny_remote.folder / "data/raw")
    printed = tiny_remote.run("dvc", "pull", check=False)
    assert "failed to pull" in printed.lower() or "ERROR" in printed
    assert not (tiny_remote.folder / "data/raw" / entry["relpath"]).exists()
