"""S3 as the DVC remote: a real server, real pushes and pulls, failures that a user reads."""

from pathlib import Path

import pytest

from tests.conftest import Project
from tools.remote.s3_server import Identity, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.s3]


@pytest.fixture
def remote(project: Project, s3_server: S3Server, s3_owner: Identity) -> Project:
    """The built project with an S3 remote, and the credentials in the environment."""
    project.run("dvc", "remote", "add", "--default", "s3", "s3://experiments/detector")
    project.run("dvc", "remote", "modify", "s3", "endpointurl", s3_server.endpoint)
    project.run("dvc", "remote", "modify", "s3", "verify", "true")
    project.commit("Add a remote")
    environment = {**project.environment, **s3_server.environment(s3_owner)}
    return Project(project.folder, environment)


def clone_of(project: Project, folder: Path) -> Project:
    project.run("git", "clone", "--quiet", str(project.folder), str(folder))
    return Project(folder, project.environment)


def files(project: Project) -> dict[str, bytes]:
    return {
        path.relative_to(project.folder).as_posix(): path.read_bytes()
        for output in ("data", "models", "metrics", "plots")
        for path in sorted((project.folder / output).rglob("*"))
        if path.is_file()
    }


def test_what_is_pushed_is_pulled_elsewhere_to_the_byte(remote: Project, tmp_path: Path) -> None:
    remote.run("dvc", "push")
    clone = clone_of(remote, tmp_path / "clone")
    clone.run("dvc", "pull")
    assert files(clone) == files(remote)
    assert clone.repro() == []


def test_experiments_travel_through_git_and_s3(remote: Project, tmp_path: Path) -> None:
    remote.run("dvc", "push")
    remote.run("git", "init", "--quiet", "--bare", str(tmp_path / "hub"))
    remote.run("git", "remote", "add", "hub", str(tmp_path / "hub"))
    remote.run("git", "push", "--quiet", "hub", "main")
    remote.run("dvc", "exp", "run", "--name", "other", "-S", "evaluate.seed=5")
    remote.run("dvc", "exp", "push", "hub", "other")
    remote.run("git", "clone", "--quiet", "--branch=main", str(tmp_path / "hub"), "clone")
    clone = Project(remote.folder / "clone", remote.environment)
    clone.run("dvc", "exp", "pull", "origin", "other")
    clone.run("dvc", "exp", "apply", "other")
    assert clone.read("metrics/evaluate.json") == remote.read("metrics/evaluate.json")


def test_a_wrong_key_is_understood(remote: Project) -> None:
    remote.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    printed = remote.run("dvc", "push", check=False, timeout=120)
    assert "ERROR" in printed
    assert any(word in printed for word in ("Forbidden", "403", "signature", "Access"))


def test_a_dead_server_is_understood_and_nothing_is_lost(
    remote: Project, s3_server: S3Server, tmp_path: Path
) -> None:
    s3_server.kill()
    printed = remote.run("dvc", "push", check=False, timeout=300)
    assert "ERROR" in printed
    assert "connect" in printed.lower()
    s3_server.start()
    remote.run("dvc", "push")
    clone = clone_of(remote, tmp_path / "clone")
    clone.run("dvc", "pull")
    assert files(clone) == files(remote)
