import json
import shutil

import pytest
import vl_convert
from ruamel.yaml import YAML
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import ROOT, Project, make_project
from tests.helpers.make_predictions import make_predictions, write_evaluation_inputs
from tools.offline_plots import offline_page

pytestmark = pytest.mark.slow

PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
CHARTS = [
    name
    for plots in (PIPELINE["plots"], *(s.get("plots", []) for s in PIPELINE["stages"].values()))
    for plot in plots
    if isinstance(plot, dict)
    for name in plot
    if not name.startswith("metrics/")  # documents, which draw nothing
]
DOCUMENTS = ("metadata", "split", "shortcuts", "calibrate")
TRAINING = """epoch,learning_rate,train_loss,val_loss,val_mcc,val_auroc
1,0.001,0.7,0.7,{0},0.5
2,0.001,0.5,0.6,{0},0.7
"""


@pytest.fixture(scope="module")
def plotted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the plots of two revisions, `weak` and `strong`, and the offline page."""
    folder = tmp_path_factory.mktemp("plotted")
    rounds = {"evaluate.bootstrap_rounds": 30}
    project = make_project(folder / "project", folder / "home", rounds)
    shutil.rmtree(project.folder / "studies")  # none has been run: their charts would be empty
    for revision, strength in (("weak", 0.5), ("strong", 1.0)):
        write_evaluation_inputs(project.folder, make_predictions(30, 0, strength))
        assert project.repro("--single-item", "evaluate") == ["evaluate"]
        picture = project.read("plots/evaluate/overview.png")
        for name in ("errors/false_positives", "errors/false_negatives", "training_batch"):
            path = project.folder / f"plots/{name}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(picture)
        (project.folder / "plots/training.csv").write_text(TRAINING.format(strength / 2))
        for name in DOCUMENTS:
            (project.folder / f"metrics/{name}.json").write_text('{"images": 60}\n')
        project.commit(revision)
        project.run("git", "tag", revision)
    project.run("python", "-m", "tools.offline_plots")
    return project


def marks(driver: WebDriver) -> list[int]:
    """Return how many shapes stand for data in each chart that the page shows."""
    counts: list[int] = driver.execute_script(
        "return [...document.querySelectorAll('svg.marks')]"
        ".filter(chart => chart.checkVisibility())"
        ".map(chart => chart.querySelectorAll('.role-mark path').length)"
    )
    return counts


def test_every_chart_draws_both_revisions(plotted: Project) -> None:
    plots = json.loads(plotted.run("dvc", "plots", "diff", "weak", "strong", "--json"))["data"]

    assert list(CHARTS) == [name for name in plots if name in CHARTS]
    for name in CHARTS:
        chart = plots[name][0]["content"]
        assert {row["rev"] for row in chart["data"]["values"]} == {"weak", "strong"}, name
        assert "<DVC_METRIC" not in json.dumps(chart), name
        picture = vl_convert.vegalite_to_svg(chart, allowed_base_urls=[])
        assert "weak" in picture, name
        assert "strong" in picture, name


@pytest.mark.browser
@pytest.mark.parametrize("command", [("show",), ("diff", "weak", "strong")])
def test_the_page_draws_every_chart_without_a_network(
    plotted: Project, chromium: WebDriver, command: tuple[str, ...]
) -> None:
    plotted.run("dvc", "plots", *command, "--out", "page")
    chromium.get((plotted.folder / "page/index.html").as_uri())
    WebDriverWait(chromium, 60).until(lambda driver: len(marks(driver)) == len(CHARTS))

    assert min(marks(chromium)) > 0
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call] # it has no types
    pictures = chromium.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(pictures) == 3 * max(1, len(command) - 1)
    assert min(pictures) > 0


def test_the_page_asks_no_other_host_for_anything() -> None:
    page = offline_page()

    assert "<script src" not in page
    assert "cdn.jsdelivr.net" not in page
    assert page.count("</script") == 1
    for placeholder in ("{plot_divs}", "{refresh_tag}"):
        assert page.count(placeholder) == 1
    assert "{scripts}" not in page
