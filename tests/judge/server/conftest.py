"""A running server that the tests of a run share."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import ROOT


@contextmanager
def serving(models: Path, *options: str) -> Iterator[str]:
    """Yield the address of a server of its own; at its end nothing may stand in its log."""
    process = subprocess.Popen(
        [sys.executable, "-m", "judge.server", "--port", "0", "--models", str(models), *options],
        cwd=ROOT,
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    log: list[str] = []
    with process.stderr:
        lines = iter(process.stderr.readline, "")
        reader = threading.Thread(target=log.extend, args=(lines,))  # or it would wait for a reader
        try:
            address = next(
                found[0] for line in lines if (found := re.search(r"http://\S+\d", line))
            )
            reader.start()
            yield address
        finally:
            process.terminate()
            process.wait()
            if reader.ident:
                reader.join()
    assert "Traceback" not in "".join(log)
    assert "ERROR" not in "".join(log)


@pytest.fixture(scope="session")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the trained detector, its card and its data."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(trained / "exported", folder / "models")
    (folder / "models/card.md").write_text("# Card\n\n| a | b |\n|---|---|\n| <b>1</b> | 2 |\n")
    (folder / "data").mkdir()
    (folder / "data/splits.csv").symlink_to(trained / "splits.csv")
    (folder / "data/raw").symlink_to(trained / "raw")
    slices = folder / "plots/evaluate/slices.csv"
    slices.parent.mkdir(parents=True)
    head = "name,by,value,label,images,groups,few,correct,correct_low,correct_high\n"
    slices.write_text(f"{head}x,jpeg_quality,above 10,fake,9,9,False,0.5,0.25,0.75\n")
    with serving(folder / "models") as address:
        yield address
