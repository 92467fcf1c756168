"""What docs/model.md prints to be pasted works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from judge import Judge
from tests.helpers import ROOT

TEXT = (ROOT / "docs/model.md").read_text(encoding="utf-8")
FROM_PYTHON, WITH_ONNX = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def photo(trained: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (images / "models").symlink_to(trained / "exported")
    monkeypatch.chdir(images)
    for name in ("photo.jpg", "a.jpg", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    return images / "photo.jpg"


@pytest.mark.slow
def test_onnx_runtime_and_pillow_judge_as_we_do(photo: Path) -> None:
    for name in (photo.name, str(max(Path().glob("*/**/*.jpg")))):
        command = [sys.executable, "-c", WITH_ONNX, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        judge = Judge.load("models")
        verdict = judge(name)
        assert done.stdout == f"{judge.trained_on}\n{verdict.verdict} {verdict.probability:.3f}\n"
    assert not re.search(r"^(import|from) (?!json|sys|numpy|onnxruntime|PIL)", WITH_ONNX, re.M)


@pytest.mark.usefixtures("photo")
def test_the_judge_is_used_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    exec(FROM_PYTHON, {})
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split()[0] in ("real", "fake", "unsure")
    assert last == "No such file or directory"
    assert Path("heat.png").is_file()
