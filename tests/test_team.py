"""A team on one remote: what one builds the others get, and nobody deletes what others need."""

import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.helpers.tiny_remote import cached, client, outputs
from tools.remote.s3_server import Identity, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.s3]


@pytest.fixture
def hub(tiny_remote: Project, tmp_path: Path) -> Project:
    """The first member's project: pushed to S3, and to a Git server that others clone from."""
    tiny_remote.run("dvc", "push")
    tiny_remote.run("git", "init", "--quiet", "--bare", str(tmp_path / "hub.git"))
    tiny_remote.run("git", "remote", "add", "origin", str(tmp_path / "hub.git"))
    tiny_remote.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    return tiny_remote


def colleague(project: Project, folder: Path) -> Project:
    """Somebody else's clone of the hub, with an empty home."""
    project.run(
        "git", "clone", "--quiet", "--branch=main", str(folder.parent / "hub.git"), str(folder)
    )
    (folder.parent / f"{folder.name}-home").mkdir()
    home = {"HOME": str(folder.parent / f"{folder.name}-home")}
    return Project(folder, project.environment | home)


def test_a_clone_pulls_what_was_built_and_rebuilds_nothing(hub: Project, tmp_path: Path) -> None:
    clone = colleague(hub, tmp_path / "clone")
    assert clone.repro("--allow-missing", "--dry") == []  # the gate of CI: no data, no credentials
    clone.run("dvc", "pull")
    assert outputs(clone) == outputs(hub)
    assert clone.repro() == []
    (clone.folder / "params.yaml").write_text("length: 1000\n")
    assert clone.repro("--allow-missing", "--dry") == ["make"]


def test_a_run_of_one_is_nobodys_run_again(hub: Project, tmp_path: Path) -> None:
    (hub.folder / "params.yaml").write_text("length: 1000\n")
    hub.repro()
    hub.run("python", "-m", "tools.push")
    clone = colleague(hub, tmp_path / "clone")
    (clone.folder / "params.yaml").write_text("length: 1000\n")
    printed = clone.run("dvc", "repro", "--pull")
    assert "Stage 'make' is cached - skipping run, checking out outputs" in printed
    assert outputs(clone) == outputs(hub)
    assert clone.read("dvc.lock") == hub.read("dvc.lock")
    assert clone.read("metrics.json") == hub.read("metrics.json")


def test_what_was_never_pushed_is_built_where_the_doctor_is_told_so(
    tiny_remote: Project, tmp_path: Path
) -> None:
    tiny_remote.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", tiny_remote.environment)
    command = ("python", "-m", "tools.doctor", "--remote-only")
    lost = "remote storage, objects: 2 of 2 objects in use are neither there nor in this cache"
    assert f"FAIL  {lost}" in clone.run(*command, check=False)
    assert f"warn  {lost}" in clone.run(*command, "--build")
    assert clone.repro("--pull") == ["make"]
    assert outputs(clone) == outputs(tiny_remote)
    clone.run("dvc", "remote", "modify", "storage", "url", "s3://no-such-bucket/path")
    assert "FAIL  remote storage, bucket" in clone.run(*command, "--build", check=False)


def test_experiments_travel_without_a_commit(hub: Project, tmp_path: Path) -> None:
    hub.run("dvc", "exp", "run", "--name", "small", "--set-param", "length=1000")
    hub.run("dvc", "exp", "push", "origin", "small")
    clone = colleague(hub, tmp_path / "clone")
    clone.run("dvc", "exp", "pull", "origin", "small")
    clone.run("dvc", "exp", "apply", "small")
    assert outputs(clone) == outputs(hub)
    assert (clone.folder / "params.yaml").read_text() == "length: 1000\n"


def test_hosts_share_a_sweep(hub: Project, tmp_path: Path) -> None:
    hosts = [colleague(hub, tmp_path / name) for name in ("host-1", "host-2")]
    for number, host in enumerate(hosts, 1):
        sweep = f"length={1000 * number},{1000 * number + 500}"
        host.run("dvc", "exp", "run", "--queue", "--name", f"h{number}", "--set-param", sweep)
        host.run("dvc", "queue", "start")
    for host in hosts:  # both are at work by now
        deadline = time.monotonic() + 300
        while host.run("dvc", "queue", "status").count("Success") < 2:
            assert time.monotonic() < deadline, host.run("dvc", "queue", "status")
            time.sleep(2)
        names = host.run("dvc", "exp", "list", "--name-only").split()
        host.run("dvc", "exp", "push", "origin", *names)
        host.run("dvc", "queue", "stop")
    hub.run("dvc", "exp", "pull", "origin", "--rev", "main")
    assert sorted(hub.run("dvc", "exp", "list", "--name-only").split()) == [
        *("h1-1", "h1-2", "h2-1", "h2-2")
    ]
    hub.run("dvc", "exp", "apply", "h2-2")
    assert len(outputs(hub)["data/raw/cat.tar"]) == 2500


def test_collecting_garbage_keeps_what_branches_tags_and_experiments_need(
    hub: Project, shared_s3: S3Server, s3_owner: Identity
) -> None:
    s3 = client(shared_s3, s3_owner)
    prefix = hub.folder.parent.name

    def stored() -> int:
        return int(s3.list_objects_v2(Bucket="experiments", Prefix=prefix)["KeyCount"])

    def build(size: int) -> None:
        (hub.folder / "params.yaml").write_text(f"length: {size}\n")
        hub.run("dvc", "repro", "--quiet")
        hub.run("dvc", "push")

    hub.run("git", "switch", "--quiet", "--create", "colleague")
    build(1000)
    hub.commit("Of a colleague")
    hub.run("git", "switch", "--quiet", "main")
    hub.run("dvc", "checkout")
    needed = stored()
    build(2000)  # of nobody: pushed, but never committed
    hub.run("git", "reset", "--quiet", "--hard")
    hub.run("dvc", "checkout", "--force")
    assert stored() == needed + 6
    hub.run(
        *("dvc", "gc", "--all-branches", "--all-tags", "--all-experiments", "--cloud", "--force")
    )
    assert stored() == needed
    shutil.rmtree(hub.folder / ".dvc/cache")
    hub.run("git", "switch", "--quiet", "colleague")
    hub.run("dvc", "pull", "--force")
    assert len(outputs(hub)["data/raw/cat.tar"]) == 1000


def test_what_stands_on_a_private_remote_is_for_those_who_may(
    tiny: Project, tmp_path: Path, s3_owner: Identity
) -> None:
    member = Identity(
        "member",
        "member-key",
        "member-secret",
        tuple(f"{right}:experiments" for right in ("Read", "Write", "List")),
    )
    with S3Server(tmp_path / "s3", "experiments", [s3_owner, member]) as server:
        client(server, s3_owner).create_bucket(Bucket="test-split")
        tiny.environment.update(server.environment(s3_owner))
        remotes = {"storage": "s3://experiments/x", "private": "s3://test-split/x"}
        for name, url in remotes.items():
            tiny.run("dvc", "remote", "add", name, url)
            tiny.run("dvc", "remote", "modify", name, "endpointurl", server.endpoint)
        tiny.run("dvc", "config", "core.remote", "storage")
        text = (tiny.folder / "dvc.yaml").read_text()
        (tiny.folder / "dvc.yaml").write_text(
            text.replace("data/table.csv]", "data/table.csv: {remote: private}]")
        )
        tiny.run("dvc", "push")
        tiny.commit("A private remote")
        keys = client(server, s3_owner).list_objects_v2(Bucket="test-split")["Contents"]
        assert len(keys) == 1
        tiny.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
        clone = Project(tmp_path / "clone", tiny.environment | dict(server.environment(member)))
        clone.run("dvc", "pull", "data/raw")
        assert "data/raw/cat.tar" in outputs(clone)
        refused = clone.run("dvc", "pull", "data/table.csv", check=False)
        assert "ERROR" in refused
        printed = clone.run("python", "-m", "tools.doctor", "--remote-only", check=False)
        assert "FAIL  remote private, bucket: the server knows the credentials" in printed
        assert "ok    remote storage, write" in printed
        whole = Project(clone.folder, clone.environment | dict(server.environment(s3_owner)))
        whole.run("dvc", "pull")
        assert outputs(whole) == outputs(tiny)
        assert len(cached(whole)) == 6
