"""What docs/data.md prints to be typed or pasted works as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from src.core.cli import InputError
from src.core.params import load_params
from src.core.tables import FAKE, REAL
from src.download import DownloadParams
from src.sources.local.cache import CACHE_VARIABLE
from src.sources.shared.combined import Sources
from src.sources.shared.subset import choose
from tests.helpers import ROOT
from tests.helpers.make_artifact import zip_of
from tests.sources.origins.test_origins import unpack
from tests.test_download import PARAMS

TEXT = (ROOT / "docs/data.md").read_text(encoding="utf-8")
FILES = {f"a/{kind}_{n}.jpg": f"{kind} {n}".encode() for kind in ("real", "fake") for n in (1, 2)}


def test_values_on_the_command_line_are_quoted_as_dvc_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```\n(dvc exp run -S 'download.*?)```", TEXT, re.DOTALL)
    origins: list[Any] = []
    for command in block.replace("\\\n", " ").splitlines():
        values = [word for word in shlex.split(command) if word.startswith("download.")]
        Path("params.yaml").write_text(json.dumps({"download": {**PARAMS, "origin": ""}}))
        (parsed,) = get_hydra_sweeps({"params.yaml": values})
        apply_overrides("params.yaml", parsed["params.yaml"])
        origins.append(load_params(DownloadParams, "download").origin)
    assert origins == [
        ("s3://bucket/ArtiFact.zip", ""),
        "https://host/x.zip#whole",
        "env:DATA_URL",
        "~/my images",
    ]


def test_the_example_of_a_new_data_set_passes_the_checks() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    ruff = [sys.executable, "-m", "ruff"]
    for arguments in (["check", "-"], ["format", "--check", "-"]):
        command = [*ruff, *arguments, "--stdin-filename", "src/sources/ours.py"]
        done = subprocess.run(command, input=code, text=True, capture_output=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)
    return module


@pytest.mark.parametrize("origin", ["folder", "x.zip"])
def test_the_example_of_a_new_data_set_is_one(
    example: dict[str, Any], tmp_path: Path, origin: str
) -> None:
    unpack(tmp_path, {f"folder/{name}": data for name, data in FILES.items()})
    unpack(tmp_path, {"x.zip": zip_of(FILES)})
    sources = Sources([example["build"](str(tmp_path / origin))])
    asked = DownloadParams(**PARAMS, origin="")
    images = choose(sources.catalogue(), sources.licences(), asked)
    labels = dict(zip(images["method"], images["label"], strict=True))
    assert labels == {"our_camera": REAL, "our_gan": FAKE}
    assert sources.prepare(images) == {}
    assert sorted(data for _, data in sources.fetch(images)) == sorted(FILES.values())


def test_the_example_says_what_is_wrong(example: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or directory"):
        example["build"](str(tmp_path / "mistyped"))
    with pytest.raises(InputError, match=r"not laid out as expected: real_1\.jpg, fake_1\.jpg"):
        example["build"](str(unpack(tmp_path / "other", {"1.jpg": b"1"})))
