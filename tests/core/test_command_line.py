"""What is answered before a module's imports."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src.core.cli import parse_paths
from tests.helpers import ROOT

# Every command whose imports take more than a second, and some whose do not.
MODULES = [
    *(
        f"src.{path.stem}"
        for path in sorted((ROOT / "src").glob("*.py"))
        if path.stem != "__init__"
    ),
    *("studies.robustness.scores", "studies.robustness.summary"),
    *("studies.holdout.summary", "studies.crossval.summary"),
]
HEAVY = {"torch", "timm", "sklearn", "matplotlib", "accelerate", "transformers", "cv2"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=120
    )


@pytest.mark.parametrize("module", MODULES)
def test_help_needs_no_library_that_takes_seconds(module: str) -> None:
    done = python("-X", "importtime", "-m", module, "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout
    assert "show this help" in done.stdout
    imported = {name.split(".")[0] for name in re.findall(r"\| +(\S+)$", done.stderr, re.M)}
    assert "argparse" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("flag", ["-m src.train", "-msrc.train", "-X dev -m src.train"])
def test_wrong_arguments_are_refused_as_early(flag: str) -> None:
    done = python("-X", "importtime", *flag.split(), "splits.csv")
    assert done.returncode == 2
    assert "python -m src.train: error: the following arguments are required: raw" in done.stderr
    assert "torch" not in done.stderr


def test_paths_are_positions_or_required_options(capsys: pytest.CaptureFixture[str]) -> None:
    args = parse_paths("What it does.", "raw --knn-index", ["a", "--knn-index", "b"])
    assert vars(args) == {"raw": Path("a"), "knn_index": Path("b")}
    with pytest.raises(SystemExit):
        parse_paths("What it does.", "raw --knn-index", ["a"])
    assert "--knn-index" in capsys.readouterr().err


WAIT = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name != LOADED:
            return
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
        except BaseException:
            raise ImportError("swallowed") from None
        print("still here", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
sys.argv[:] = ["-m", *["x"] * 9]
sys.orig_argv[:] = ["python", "-m", MODULE, *sys.argv[1:]]
runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
"""


def interrupted(module: str, loaded: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `python -m module`, interrupted when the library `loaded` begins to be imported."""
    code = WAIT.replace("LOADED", repr(loaded)).replace("MODULE", repr(module))
    return python("-c", before + code)


@pytest.mark.parametrize(
    ("module", "loaded"),
    [("src.train", "torch"), ("src.train", "pandas"), ("tools.push", "dvc")],
)
def test_ctrl_c_in_the_imports_is_one_line_and_exit_130(module: str, loaded: str) -> None:
    done = interrupted(module, loaded)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_that_the_shell_ignores_stays_ignored() -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = interrupted("src.train", "torch", ignore)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "still here\n")
