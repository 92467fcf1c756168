"""What the last run left -> one HTML page that needs no other file: see `make report`."""

import argparse
import base64
import hashlib
import json
import logging
import mimetypes
import platform
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from importlib.metadata import version
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jinja2
import vl_convert
from markdown_it import MarkdownIt
from markupsafe import Markup
from ruamel.yaml import YAML
from tqdm import tqdm

from src.core.cli import InputError, run
from src.core.files import read_json, replacing

logger = logging.getLogger("report")

TEMPLATE = Path(__file__).with_name("page.html.jinja")
PICTURES = ".png"
DVC_WIDTH, WIDTH = 300, 330  # pixels of a chart without its labels: as DVC has it, and here
COLUMN = 520  # pixels, half the page: what is wider takes all of it, lest its text shrinks


class Chart(NamedTuple):
    """One plot of `dvc plots`, drawn."""

    study: str  # the folder of studies/ that made it, or nothing
    title: str
    source: str  # a data URI
    is_picture: bool  # as it is, not a chart
    is_wide: bool  # needs the width of the page


class Study(NamedTuple):
    """One folder of studies/ whose results are here."""

    name: str
    summary: Markup  # what its `make` target ends with, as HTML
    outdated: list[str]  # outputs of the main pipeline that have changed since


class Stage(NamedTuple):
    """One stage of dvc.lock."""

    name: str
    after: list[str]  # the stages whose outputs it reads
    outs: list[Mapping[str, Any]]  # path, md5, size of each output


def build_page(root: Path) -> str:
    """Return the page for the project in `root`, as its last run left it.

    Equal inputs give equal bytes: no date, no path of this machine, nothing unordered.

    Raises:
        InputError: a stage has not run, or DVC cannot draw a plot.
    """
    lock, manifest = root / "dvc.lock", root / "data/raw/manifest.json"
    for path in (lock, manifest):
        if not path.is_file():
            raise InputError(f"{path} is missing: nothing has run here yet; run make repro")
    locked = _read_yaml(lock)["stages"]
    stages = read_stages(locked)
    metrics = {path.stem: read_json(path) for path in sorted((root / "metrics").glob("*.json"))}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": _words, "bytes": _in_bytes, "figure": "{:.3f}".format}
    return environment.get_template(TEMPLATE.name).render(
        params=_read_yaml(root / "params.yaml"),
        params_text=(root / "params.yaml").read_text(encoding="utf-8"),
        stages=stages,
        levels=levels(stages),
        studies=list(read_studies(root, locked)),
        lock_blob=git_blob(lock.read_bytes()),
        manifest=read_json(manifest),
        charts=list(draw_charts(root)),
        packages=read_packages(root / "requirements.in"),
        python=platform.python_version(),
        system=f"{platform.system()} on {platform.machine()}",
        hardest=min(metrics["evaluate"]["recall"].items(), key=lambda item: item[1]),
        **metrics,
    )


def read_stages(locked: Mapping[str, Any]) -> list[Stage]:
    """Return the stages of a parsed dvc.lock, each after those whose outputs it reads."""
    makers = {out["path"]: name for name, stage in locked.items() for out in stage.get("outs", [])}
    after = {
        name: sorted({makers[path] for path in _read_paths(stage) if path in makers})
        for name, stage in locked.items()
    }
    order = TopologicalSorter(dict(sorted(after.items()))).static_order()
    return [Stage(name, after[name], locked[name].get("outs", [])) for name in order]


def levels(stages: Sequence[Stage]) -> list[list[str]]:
    """Return the names of `stages`, those together that wait for the same number of others."""
    depth: dict[str, int] = {}
    for stage in stages:
        depth[stage.name] = 1 + max((depth[name] for name in stage.after), default=-1)
    by_depth = sorted(depth, key=lambda name: (depth[name], name))
    return [list(names) for _, names in groupby(by_depth, key=depth.__getitem__)]


def _read_paths(stage: Mapping[str, Any]) -> Iterator[str]:
    for dep in stage.get("deps", []):
        path = PurePosixPath(dep["path"])
        yield from map(str, (path, *path.parents))


def read_studies(root: Path, locked: Mapping[str, Any]) -> Iterator[Study]:
    """Yield the studies that have run; `locked` are the stages of the main dvc.lock."""
    current = {
        out["path"]: out["md5"] for stage in locked.values() for out in stage.get("outs", [])
    }
    for page in sorted(root.glob("studies/*/results/README.md")):
        lock = page.parents[1] / "dvc.lock"
        used = {
            posixpath.normpath(posixpath.join(folder, dep["path"])): dep["md5"]
            for stage in (_read_yaml(lock)["stages"] if lock.is_file() else {}).values()
            for dep in stage.get("deps", [])
            for folder in (".", lock.parent.relative_to(root).as_posix())  # whatever its `wdir`
        }
        outdated = [path for path, md5 in used.items() if current.get(path, md5) != md5]
        summary = to_html(page.read_text(encoding="utf-8").partition("\n")[2])
        yield Study(lock.parent.name, summary, sorted(outdated))


def to_html(markdown: str) -> Markup:
    """Return Markdown as HTML, in which a wide table scrolls by itself; its own HTML is text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return Markup(parser.render(markdown))


def git_blob(data: bytes) -> str:
    """Return the name that Git gives to a file with these bytes (repositories with SHA-1)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def read_packages(requirements: Path) -> dict[str, str]:
    """Return the installed version of each package that requirements.in lists."""
    text = requirements.read_text(encoding="utf-8")
    names = re.findall(r"^[A-Za-z][\w.-]*", text, flags=re.MULTILINE)
    return {name: version(name) for name in sorted(names, key=str.lower)}


def draw_charts(root: Path) -> Iterator[Chart]:
    """Yield every plot that `dvc plots show` knows and can draw, in its order, as pictures.

    Raises:
        InputError: DVC refuses, or the file of a plot of a stage, or of a study that has results,
            is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        plots = _dvc_plots(root, folder)
        if errors := [e for e in plots.get("errors", []) if not _of_unrun_study(root, e["source"])]:
            raise InputError(f"plot {errors[0]['name']}: {errors[0]['msg']}: run dvc repro first")
        titles = study_titles(root)
        # Only a terminal wants to see how far it is.
        for name, drawings in tqdm(plots["data"].items(), "draw", unit="plot", disable=None):
            study = study_of(name, titles)
            for drawing in drawings:
                if drawing["type"] == "image":
                    uri = _picture(Path(drawing["url"]))
                    yield Chart(study, name.rpartition("::")[2], uri, is_picture=True, is_wide=True)
                else:
                    svg = _chart(drawing["content"])
                    title, uri = (
                        drawing["content"]["title"]["text"],
                        _data_uri("image/svg+xml", svg),
                    )
                    yield Chart(study, title, uri, is_picture=False, is_wide=_is_wide(svg))


def study_titles(root: Path) -> dict[str, str]:
    """Return the study of each chart that a studies/*/dvc.yaml defines, by the chart's title."""
    return {
        title: path.parent.name
        for path in sorted(root.glob("studies/*/dvc.yaml"))
        for plot in _read_yaml(path).get("plots", [])
        if isinstance(plot, Mapping)
        for title in plot
    }


def study_of(name: str, titles: Mapping[str, str]) -> str:
    """Return the study, or nothing, whose plot DVC calls `name`.

    A picture is called by its path, a chart by its title; before it stands the file that defines
    it, where two files define plots of one name.
    """
    definition, _, plot = name.rpartition("::")
    folders = PurePosixPath(definition or plot).parts
    if folders[0] == "studies":
        return folders[1]
    return "" if definition else titles.get(plot, "")


def _of_unrun_study(root: Path, source: str) -> bool:
    """Whether `source` is of a study without results: the page leaves those out."""
    return source.startswith("studies/") and not (root / source).parent.exists()


def _dvc_plots(root: Path, folder: str) -> dict[str, Any]:
    command = ["dvc", "plots", "show", "--json", "--out", folder]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(command[:3])}: {done.stderr.strip()}")
    # A sentence for people precedes the document where a plot could not be read.
    plots: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return plots


def _chart(spec: Mapping[str, Any]) -> bytes:
    text = {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 300}
    axis = {**text, "titlePadding": 24}  # a browser's letters may be wider than the measured ones
    config = {**spec.get("config", {}), "axis": axis, "legend": {**text, "orient": "bottom"}}
    changes: dict[str, Any] = {"title": None, "background": "white", "config": config}
    if spec.get("width") == DVC_WIDTH:
        changes["width"] = WIDTH
    return vl_convert.vegalite_to_svg({**spec, **changes}).encode()


def _is_wide(svg: bytes) -> bool:
    width = re.search(rb'<svg[^>]* width="([0-9.]+)"', svg)
    return width is not None and float(width[1]) > COLUMN


def _picture(path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    return _data_uri(kind or "application/octet-stream", path.read_bytes())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _read_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def _words(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(PICTURES).replace("_", " ")


def _in_bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    args = parser.parse_args(argv)
    page = build_page(Path())
    with replacing(args.page) as temporary:
        temporary.write_text(page, encoding="utf-8")
    logger.info("%s: open it in a browser, it needs no other file", args.page)


if __name__ == "__main__":
    run(main)
