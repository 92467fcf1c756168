"""What several test files share: a small project that real `dvc` commands run in, an S3 server."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from hypothesis import settings
from ruamel.yaml import YAML
from selenium.webdriver.chrome.webdriver import WebDriver

from tests.helpers.browser import open_chromium
from tests.helpers.make_data import make_artifact_folder
from tools.remote.s3_server import Identity, S3Server
from tools.set_remote import set_remote

ROOT = Path(__file__).parents[1]
OUTPUTS = ("dvc.lock", "data/", "metrics/", "models/", "plots/")
SLOW_MARKERS = ("slow", "s3", "browser")
STUDY_OUTPUTS = re.compile(r"studies/\w+/(dvc\.lock|results/)")

# A run of seconds on four methods of 40 pictures. Their grain gives the class away in the file
# size too, so the gate is open; a test of its own closes it.
TINY: Mapping[str, Any] = {
    "download.source": "folder",
    "download.images_per_method": 40,
    "shortcuts.max_file_auroc": 1.0,
    "shortcuts.bootstrap_rounds": 50,
    "evaluate.bootstrap_rounds": 50,
    "model.name": "beit3_nano",
    "model.image_size": 32,
    "train.epochs": 2,
    "train.warmup_epochs": 0,
    "train.batch_size": 16,
}


# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


# What a shell puts in the background starts with Ctrl-C ignored, and children inherit that: tests
# that press it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Project:
    """A checkout of this repository, committed to a Git repository of its own."""

    folder: Path
    environment: dict[str, str] = field(repr=False)

    def run(self, *command: str, check: bool = True, timeout: int = 600) -> str:
        """Run a command in the project; return what it printed, stdout and stderr together."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran, in order."""
        return stages_run(self.run("dvc", "repro", *arguments))

    def set_params(self, changes: Mapping[str, Any]) -> None:
        """Change values of params.yaml, named `section.key`."""
        yaml, path = YAML(), self.folder / "params.yaml"
        document = yaml.load(path)
        for name, value in changes.items():
            section, key = name.split(".")
            document[section][key] = value
        yaml.dump(document, path)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file of the project."""
        return (self.folder / path).read_bytes()

    def commit(self, message: str) -> None:
        """Commit everything that Git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def stages_run(printed: str) -> list[str]:
    """Return the stages that DVC said it ran, in order."""
    return re.findall(r"Running stage '(\w+)'", printed)


def isolated_environment(home: Path) -> dict[str, str]:
    """Return an environment in which only this interpreter's programs and an empty home exist."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # PYTHON...: a user's Python leaves byte code beside the sources, which must not matter.
    foreign = ("AWS_", "GIT_", "PYTHON")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    identity = {"NAME": "test", "EMAIL": "test@example.com"}
    return kept | {
        "PATH": programs,
        "HOME": str(home),
        "REAL_OR_GENERATED_CACHE": str(home / "cache"),
        "DVC_NO_ANALYTICS": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **{
            f"GIT_{role}_{key}": v
            for role in ("AUTHOR", "COMMITTER")
            for key, v in identity.items()
        },
    }


def make_project(folder: Path, home: Path, params: Mapping[str, Any]) -> Project:
    """Copy what Git tracks or would track here, without outputs, into a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in listed:
        is_output = name.startswith(OUTPUTS) or STUDY_OUTPUTS.match(name)
        if not is_output and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for output in OUTPUTS[1:]:
        (folder / output).mkdir(exist_ok=True)
    home.mkdir(exist_ok=True)
    project = Project(folder, isolated_environment(home))
    project.set_params(params)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.commit("A project")
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of most slow tests: who got one last would work on alone."""
    slow = Counter(i.path for i in items if any(map(i.get_closest_marker, SLOW_MARKERS)))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a run share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return `folder` when `make(folder)` has ended, which one worker calls; others wait."""
    ready = folder.with_suffix(".ready")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # a worker that failed leaves a part
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


@pytest.fixture(scope="session")
def images(common: Path) -> Path:
    """Forty pictures of each of four methods, in ArtiFact's layout."""
    return made_once(common / "images", lambda f: make_artifact_folder(f, images_per_method=40))


@pytest.fixture(scope="session")
def built(common: Path, images: Path) -> Project:
    """A project in which `dvc repro` has run and been committed: copy it before changing it."""
    home = common / "home-of-built"

    def build(folder: Path) -> None:
        project = make_project(folder, home, {**TINY, "download.origin": str(images)})
        project.repro()
        project.commit("Rebuild")

    return Project(made_once(common / "built", build), isolated_environment(home))


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    """A copy of the built project that a test may change."""
    shutil.copytree(built.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", built.environment)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A browser without a network."""
    with open_chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="session")
def s3_owner() -> Identity:
    """Who may do everything on the S3 server."""
    return Identity("owner", "owner-key", "owner-secret")


@pytest.fixture
def s3_server(tmp_path: Path, s3_owner: Identity) -> Iterator[S3Server]:
    """A running S3 server with the bucket `experiments`."""
    with S3Server(tmp_path / "s3", "experiments", [s3_owner]) as server:
        yield server


@pytest.fixture(scope="session")
def s3_reader() -> Identity:
    """Who may look at the bucket `experiments` and nothing else."""
    return Identity(
        "reader", "reader-key", "reader-secret", ("Read:experiments", "List:experiments")
    )


@pytest.fixture(scope="session")
def shared_s3(
    tmp_path_factory: pytest.TempPathFactory, s3_owner: Identity, s3_reader: Identity
) -> Iterator[S3Server]:
    """One running S3 server for every test that leaves it running; each uses a path of its own."""
    folder = tmp_path_factory.mktemp("shared") / "s3"
    with S3Server(folder, "experiments", [s3_owner, s3_reader]) as server:
        yield server


@pytest.fixture(scope="session")
def built_tiny(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of seconds, built and committed: copy it before changing it."""
    from tests.helpers.tiny_remote import make_tiny

    folder = tmp_path_factory.mktemp("tiny")
    return make_tiny(folder / "project", folder / "home")


@pytest.fixture
def tiny(built_tiny: Project, tmp_path: Path) -> Project:
    """A copy of the project of seconds that a test may change."""
    shutil.copytree(built_tiny.folder, tmp_path / "tiny", symlinks=True)
    return Project(tmp_path / "tiny", dict(built_tiny.environment))


@pytest.fixture
def folder_remote(tiny: Project, tmp_path: Path) -> Project:
    """The project of seconds with everything pushed to the folder `remote` beside it."""
    with Repo(str(tiny.folder)) as repo:
        set_remote(repo, "storage", str(tmp_path / "remote"), None)
    # As `dvc push` leaves it: the remote is laid out as the cache is.
    shutil.copytree(tiny.folder / ".dvc/cache/files", tmp_path / "remote/files")
    return tiny


@pytest.fixture
def tiny_remote(tiny: Project, shared_s3: S3Server, s3_owner: Identity) -> Project:
    """The project of seconds with a path of its own on the shared S3 server."""
    tiny.environment.update(shared_s3.environment(s3_owner))
    url = f"s3://experiments/{tiny.folder.parent.name}"
    with Repo(str(tiny.folder)) as repo:
        set_remote(repo, "storage", url, shared_s3.endpoint)
    tiny.commit("Add a remote")
    return tiny
