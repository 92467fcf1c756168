"""Builds a wheel of `judge` alone, with the modules of `src` that it imports: docs/model.md.

They are installed as `judge.parts`: a package called `src` would be in the way of everybody's own.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
LEFT_OUT = "judge/torch_runtime.py"  # it would bring in PyTorch, and all of training


def module_files(name: str) -> Iterator[Path]:
    """Yield the file of a module of ours, and those of the packages around it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:count])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and file != ROOT / LEFT_OUT:
                yield file


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of ours that `file` imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in ("judge", "src"))


def needed() -> set[Path]:
    """Return the files that the package `judge` reaches."""
    found: set[Path] = set()
    queue = [file for file in ROOT.glob("judge/**/*.py") if file != ROOT / LEFT_OUT]
    while queue:
        if (file := queue.pop()) not in found:
            found.add(file)
            queue += [other for name in imported(file) for other in module_files(name)]
    return found


class BuildPy(build_py):
    """Writes what is needed, with the imports that lead there."""

    def run(self) -> None:
        """Write all into the folder of the build."""
        target = Path(self.build_lib)
        for file in sorted(needed()):
            name = file.relative_to(ROOT)
            place = Path("judge/parts", *name.parts[1:]) if name.parts[0] == "src" else name
            text = re.sub(
                r"(?m)^(\s*(?:from|import) )src\b",
                r"\1judge.parts",
                file.read_text(encoding="utf-8"),
            )
            write(target / place, text.encode())
        for page in sorted(ROOT.glob("judge/page/*")):
            write(target / page.relative_to(ROOT), page.read_bytes())


def write(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


setup(cmdclass={"build_py": BuildPy})
