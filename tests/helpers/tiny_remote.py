"""A DVC project of seconds for the tests of the remote: one stage that writes files."""

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3fs import S3FileSystem

from tests.conftest import ROOT, Project, isolated_environment
from tools.remote.s3_server import Identity, S3Server

STAGE = """
import hashlib, pathlib, sys
size = int(pathlib.Path("params.yaml").read_text().split(":")[1])
folder = pathlib.Path("data/raw")
folder.mkdir(parents=True)
for name in ("cat", "dog", "fox", "owl"):
    (folder / f"{name}.tar").write_bytes(hashlib.shake_256(name.encode()).digest(size))
pathlib.Path("data/table.csv").write_bytes(b"id,label\\n" * (size // 100))
pathlib.Path("metrics.json").write_text(f'{{"size": {size}}}\\n')
"""
PIPELINE = """
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    params: [length]
    outs: [data/raw, data/table.csv]
    metrics: [{metrics.json: {cache: false}}]
"""
# The parameter is not called `size`: DVC's run cache overlooks keys of that name, and brings back
# the run of another value.
SIZE = 300_000  # bytes of each of the four large files


def make_tiny(folder: Path, home: Path, size: int = SIZE) -> Project:
    """Return a built and committed project with five files in the cache and a metric in Git."""
    folder.mkdir(parents=True)
    home.mkdir(parents=True, exist_ok=True)
    environment = isolated_environment(home) | {"PYTHONPATH": str(ROOT)}
    project = Project(folder, environment)
    (folder / ".dvc").mkdir()
    (folder / "data").mkdir()
    shutil.copy2(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / ".gitignore").write_text("/data/*\n/.dvc/tmp\n/.dvc/cache\n/.scratch/\n")
    (folder / "make.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(f"length: {size}\n")
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("dvc", "repro", "--quiet")
    project.commit("Build")
    return project


def flip_byte(path: Path) -> None:
    """Change one byte and leave size, mode and times as they were, as a failing disk does."""
    before = path.stat()
    path.chmod(before.st_mode | stat.S_IWUSR)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(project: Project, pattern: str = "*/*") -> list[Path]:
    """Return the objects of the project's cache, in order."""
    return sorted((project.folder / ".dvc/cache/files/md5").glob(pattern))


def outputs(project: Project) -> dict[str, bytes]:
    """Return what DVC keeps of the workspace."""
    return {
        path.relative_to(project.folder).as_posix(): path.read_bytes()
        for name in ("data", "many")
        for path in sorted((project.folder / name).rglob("*"))
        if path.is_file()
    }


def enter(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process stand where the project's commands run, to spare it starting them."""
    monkeypatch.chdir(project.folder)
    for name in filter(lambda name: name.startswith("AWS_"), os.environ):
        monkeypatch.delenv(name)
    for name, value in project.environment.items():
        if name.startswith("AWS_") or name == "HOME":
            monkeypatch.setenv(name, value)
    # Connections are remembered by their settings, and the environment is none of them.
    S3FileSystem.clear_instance_cache()


def client(server: S3Server, identity: Identity) -> Any:
    """Return an S3 client that is not DVC's, to look at and change what is stored."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
    )


def object_of(project: Project, name: str) -> Path:
    """The cached object of a file of the workspace."""
    text = (project.folder / "dvc.lock").read_text()
    listing = json.loads(cached(project, "*/*.dir")[0].read_text())
    known = {f"data/raw/{entry['relpath']}": entry["md5"] for entry in listing}
    known |= dict(re.findall(r"path: (\S+)\n\s+hash: md5\n\s+md5: (\w+)", text))
    oid = str(known[name])
    return project.folder / ".dvc/cache/files/md5" / oid[:2] / oid[2:]


def stored(project: Project, folder: Path, name: str) -> Path:
    """The object of a file of the workspace in the remote that is a folder."""
    return folder / "remote" / object_of(project, name).relative_to(project.folder / ".dvc/cache")
