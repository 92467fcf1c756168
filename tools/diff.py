"""Two versions of the project -> a Markdown page and pictures of what changed between them."""

import argparse
import json
import logging
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from ruamel.yaml import YAML

from src.core.cli import InputError, run
from src.core.files import replacing

logger = logging.getLogger("diff")

PIXELS_PER_POINT = 1.5


def diff(base: str, folder: Path) -> None:
    """Write what changed since the Git revision `base` into `folder`, which is replaced.

    `report.md` holds the metrics and parameters that differ, then what does in the long files of
    metrics/, and names a PNG for each plot that does; `plots/index.html` has all plots, drawn over
    each other.

    Raises:
        InputError: DVC refuses, such as for an unknown revision.
    """
    plots = json.loads(_dvc("plots", "diff", base, "--json"))["data"]
    changed = {name: spec for name, spec in _specs(plots) if _differs(spec["data"]["values"])}
    with replacing(folder) as temporary:
        temporary.mkdir()
        pictures = {name: f"{_file_name(name)}.png" for name in changed}
        for name, spec in changed.items():
            png = vl_convert.vegalite_to_png(spec, scale=PIXELS_PER_POINT)
            (temporary / pictures[name]).write_bytes(png)
        _dvc("plots", "diff", base, "--out", str(temporary / "plots"))
        (temporary / "report.md").write_text(_report(base, pictures), encoding="utf-8")


def _report(base: str, pictures: Mapping[str, str]) -> str:
    sections = [f"# Against `{base}`"]
    changes = {
        "Metrics": _changes("metrics", base),
        "Params": _changes("params", base),
    }
    if details := _details():
        changes["Details"] = _changes("metrics", base, details)
    sections += [f"## {title}\n\n{table}" for title, table in changes.items()]
    images = [f"### {name}\n\n![{name}]({file})" for name, file in pictures.items()]
    sections.append("\n\n".join(["## Plots", *(images or ["No difference."])]))
    return "\n\n".join(sections) + "\n"


def _changes(what: str, base: str, targets: Sequence[str] = ()) -> str:
    table = _dvc(what, "diff", base, "--md", *(["--targets", *targets] if targets else [])).strip()
    # Without a difference DVC prints a head alone.
    return table if table.count("\n") > 1 else "No difference."


def _details() -> list[str]:
    """Return the files of metrics/ that DVC does not show as metrics: the long ones."""
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"].values()
    shown = {path for stage in stages for entry in stage.get("metrics", []) for path in entry}
    return sorted({path.as_posix() for path in Path("metrics").glob("*.json")} - shown)


def _specs(plots: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[tuple[str, Any]]:
    """Yield name and Vega-Lite specification of each plot that is not a ready-made picture."""
    for name, drawings in plots.items():
        for drawing in drawings:
            if drawing["type"] == "vega":
                yield name, drawing["content"]


def _differs(values: Sequence[Mapping[str, Any]]) -> bool:
    rows = defaultdict(list)
    for value in values:
        rest = sorted((key, item) for key, item in value.items() if key != "rev")
        rows[value["rev"]].append(rest)
    versions = list(rows.values())
    return len(versions) < 2 or any(version != versions[0] for version in versions[1:])


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _dvc(*arguments: str) -> str:
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, and say where the page is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="a branch, tag or commit")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    diff(args.base, args.folder)
    logger.info("%s and %s", args.folder / "report.md", args.folder / "plots" / "index.html")


if __name__ == "__main__":
    run(main)
