"""The page of `make report`: whole, offline, for a desk and for a phone."""

import re
import subprocess
from pathlib import Path

import pytest
from markupsafe import Markup
from selenium.webdriver.chrome.webdriver import WebDriver

from report.page import (
    Stage,
    Study,
    build_page,
    draw_charts,
    git_blob,
    levels,
    read_packages,
    read_stages,
    read_studies,
    study_of,
    study_titles,
    to_html,
)
from src.core.cli import InputError
from tests.conftest import ROOT, Project

LOCKED = {
    "split": {
        "deps": [{"path": "data/raw/shards", "md5": "1"}, {"path": "src/split.py", "md5": "2"}],
        "outs": [{"path": "data/splits.csv", "md5": "3", "size": 7}],
    },
    "download": {"outs": [{"path": "data/raw", "md5": "4", "size": 9}]},
}


def test_a_stage_follows_those_whose_outputs_it_reads() -> None:
    assert read_stages(LOCKED) == [
        Stage("download", [], [{"path": "data/raw", "md5": "4", "size": 9}]),
        Stage("split", ["download"], [{"path": "data/splits.csv", "md5": "3", "size": 7}]),
    ]


def test_stages_stand_beside_those_that_they_neither_follow_nor_precede() -> None:
    after = {"a": [], "b": [], "c": ["a"], "d": ["a", "c"], "e": ["b"]}
    stages = [Stage(name, names, []) for name, names in after.items()]
    assert levels(stages) == [["a", "b"], ["c", "e"], ["d"]]


def test_markdown_becomes_html_and_html_stays_text() -> None:
    html = to_html("| fold | MCC |\n| - | - |\n| 0 | 0.5 |\n\nLow <b>and</b> *high*.\n")
    assert html.startswith('<div class="scroll"><table>\n')
    assert "<td>0.5</td>" in html
    assert "</table></div>\n<p>Low &lt;b&gt;and&lt;/b&gt; <em>high</em>.</p>" in html


@pytest.mark.parametrize("path", ["data/splits.csv", "../../data/splits.csv"])
@pytest.mark.parametrize(("md5", "outdated"), [("3", []), ("0", ["data/splits.csv"])])
def test_a_study_of_other_data_is_called_outdated(
    tmp_path: Path, path: str, md5: str, outdated: list[str]
) -> None:
    study = tmp_path / "studies/crossval"
    (study / "results").mkdir(parents=True)
    (study / "results/README.md").write_text("# Five folds\n\nMCC 0.5\n")
    (study / "dvc.lock").write_text(f"stages: {{fold: {{deps: [{{path: {path}, md5: '{md5}'}}]}}}}")
    assert list(read_studies(tmp_path, LOCKED)) == [
        Study("crossval", Markup("<p>MCC 0.5</p>\n"), outdated)
    ]


def test_a_study_that_is_no_pipeline_is_shown_too(tmp_path: Path) -> None:
    (tmp_path / "studies/transfer/results").mkdir(parents=True)
    (tmp_path / "studies/transfer/results/README.md").write_text("# Elsewhere\n\nMCC 0.1\n")
    assert list(read_studies(tmp_path, LOCKED)) == [
        Study("transfer", Markup("<p>MCC 0.1</p>\n"), [])
    ]


def test_a_plot_belongs_to_the_study_whose_file_defines_it() -> None:
    titles = study_titles(ROOT)
    assert titles["Robustness, AUROC"] == "robustness"
    named = {
        "Robustness, AUROC": "robustness",
        "Left out of training, recall": "holdout",
        "studies/crossval/results/overview.png": "crossval",
        "studies/crossval/dvc.yaml::ROC": "crossval",
        "dvc.yaml::Robustness, AUROC": "",
        "ROC": "",
        "plots/errors/false_negatives.png": "",
        "dvc.yaml::plots/training.csv": "",
    }
    assert {name: study_of(name, titles) for name in named} == named


def test_the_lock_file_is_named_as_git_names_it(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_bytes(b"schema: 2\n")
    named = subprocess.run(
        ["git", "hash-object", "dvc.lock"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert git_blob(b"schema: 2\n") == named.stdout.strip()


def test_packages_are_those_that_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("# tables\nnumpy==1.0\n\npytest\n")
    assert list(read_packages(tmp_path / "requirements.in")) == ["numpy", "pytest"]


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing has run here yet; run make repro"):
        build_page(tmp_path)


@pytest.fixture(scope="module")
def page(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the built project, which stays as it is."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    built.run("python", "-m", "report.page", str(path))
    return path


@pytest.mark.slow
def test_the_page_tells_what_the_run_found(page: Path, built: Project) -> None:
    text = page.read_text()
    for word in ("MCC", "file statistics", "stylegan2", "beit3_nano", "max_file_auroc"):
        assert word in text
    assert git_blob(built.read("dvc.lock"))[:12] in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text), "it names another file"
    assert str(built.folder) not in text


@pytest.mark.slow
def test_it_is_an_output_of_dvc_and_the_same_each_time(project: Project) -> None:
    stage = ("--single-item", "report/dvc.yaml")
    assert project.run("dvc", "repro", *stage).count("Running stage") == 1
    first = project.read("report/report.html")
    assert "Running stage" not in project.run("dvc", "repro", *stage)
    project.run("dvc", "repro", "--force", *stage)
    assert project.read("report/report.html") == first
    assert project.repro() == []  # the main pipeline does not know it


@pytest.mark.slow
@pytest.mark.parametrize(
    "removed", ["plots/evaluate/pr.csv", "studies/robustness/results/curves.csv"]
)
def test_a_plot_that_ought_to_be_there_is_missed(project: Project, removed: str) -> None:
    path = project.folder / removed
    path.parent.mkdir(parents=True, exist_ok=True)  # a study with this folder has run
    path.unlink(missing_ok=True)
    with pytest.raises(InputError, match=f"No such file or directory: '{removed}'.*dvc repro"):
        list(draw_charts(project.folder))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_it_at_any_width(page: Path, chromium: WebDriver, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(page.as_uri())

    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call] # it has no types
    pictures = chromium.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(pictures) >= 13
    assert min(pictures) > 0
    # Wide tables scroll by themselves, not the page.
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
