"""`make diff`: a page of what changed, with a picture of each plot that did."""

from pathlib import Path

import pytest

from src.core.cli import InputError
from tests.conftest import Project
from tools.diff import diff

pytestmark = pytest.mark.slow

LONG = "metrics/split.json"
PLOTS = """
plots:
  - Precision and recall:
      x: {curve.csv: recall}
      y: {curve.csv: precision}
  - same.csv
"""


@pytest.fixture
def changed(tiny: Project) -> Project:
    """A project whose metric and one of two plots differ from its last commit."""
    with (tiny.folder / "dvc.yaml").open("a") as file:
        file.write(PLOTS)
    for name in ("curve.csv", "same.csv"):
        (tiny.folder / name).write_text("recall,precision\n0,1\n1,0.5\n")
    tiny.commit("Plots")
    (tiny.folder / "curve.csv").write_text("recall,precision\n0,1\n1,0.9\n")
    (tiny.folder / "metrics.json").write_text('{"size": 7}\n')
    return tiny


def test_what_changed_is_shown_and_nothing_else(
    changed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(changed.folder)
    diff("main", tmp_path / "comparison")
    report = (tmp_path / "comparison" / "report.md").read_text()
    assert "| metrics.json | size " in report
    assert "## Params\n\nNo difference." in report
    assert "![Precision and recall](precision-and-recall.png)" in report
    assert "same" not in report
    assert "## Details" not in report
    png = (tmp_path / "comparison" / "precision-and-recall.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert (tmp_path / "comparison" / "plots" / "index.html").is_file()


def test_a_long_document_is_compared_though_it_is_no_metric(
    changed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As metrics/split.json: a plot for DVC, so that `dvc exp show` has no column of it."""
    monkeypatch.chdir(changed.folder)
    stages = (changed.folder / "dvc.yaml").read_text()
    marked = stages.replace("    metrics:", f"    plots: [{LONG}: {{cache: false}}]\n    metrics:")
    assert marked != stages
    Path("dvc.yaml").write_text(marked)
    Path("metrics").mkdir()
    for count in (3, 4):
        Path(LONG).write_text(f'{{"train": {{"fake": {{"images": {count}}}}}}}\n')
        if count == 3:
            changed.commit("A long document")
    diff("main", tmp_path / "comparison")
    report = (tmp_path / "comparison" / "report.md").read_text()
    assert "train.fake.images" not in report.split("## Details")[0]
    assert "train.fake.images | 3 " in report.split("## Details")[1]
    shown = changed.run("dvc", "exp", "show", "--csv", "--no-pager")
    assert "train.fake" not in shown


def test_an_unknown_revision_is_named_and_the_old_page_stays(
    changed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(changed.folder)
    (tmp_path / "comparison").mkdir()
    with pytest.raises(InputError, match="no-such-branch"):
        diff("no-such-branch", tmp_path / "comparison")
    assert (tmp_path / "comparison").is_dir()
