"""The whole pipeline through real `dvc` commands, on pictures that the tests make."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import TINY, Project, make_project, stages_run

pytestmark = pytest.mark.slow

AFTER_TRAIN = ["predict", "calibrate", "evaluate", "export", "gallery", "card"]


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain") == ""


def test_the_detector_is_judged(project: Project) -> None:
    test = json.loads(project.read("metrics/evaluate.json"))["test"]
    assert -1 <= test["mcc_low"] <= test["mcc"] <= test["mcc_high"] <= 1
    shown = project.run("dvc", "metrics", "show")
    assert "mcc" in shown


def test_a_rebuild_elsewhere_killed_in_training_is_equal_to_the_byte(
    built: Project, images: Path, tmp_path: Path
) -> None:
    params = {**TINY, "download.origin": str(images)}
    again = make_project(tmp_path / "elsewhere", tmp_path / "home", params)
    kill_in_training(again)
    assert not (again.folder / "models/detector.safetensors").exists()
    assert sorted(again.repro()) == sorted(["train", *AFTER_TRAIN])
    assert len(list((again.folder / ".scratch").rglob("finished"))) == 1
    # DVC runs stages that do not need each other in any order, and a new dvc.lock lists them so.
    locks = [YAML(typ="safe").load(project.read("dvc.lock")) for project in (again, built)]
    assert locks[0] == locks[1]


def kill_in_training(project: Project) -> None:
    """Start `dvc repro` and kill it, with all that it has started, at the first checkpoint."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not list((project.folder / ".scratch").rglob("*.pt")):
            assert process.poll() is None, "training ended before it wrote a checkpoint"
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.005)  # from there to the end is a quarter of a second
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"evaluate.seed": 1}, ["evaluate", "card"]),
        ({"shortcuts.seed": 1}, ["shortcuts", "card"]),
    ],
)
def test_a_parameter_reruns_what_it_can_change(
    project: Project, changes: dict[str, int], expected: list[str]
) -> None:
    project.set_params(changes)
    assert sorted(project.repro()) == sorted(expected)


def test_a_changed_metric_reruns_evaluate_only(project: Project) -> None:
    path = project.folder / "src/evaluation/metrics.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# another metric\n", encoding="utf-8")
    assert project.repro() == ["evaluate"]  # nor the gallery: the errors are the same


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("src/evaluation/errors.py", {"evaluate", "gallery"}),  # a new column of errors.csv
        ("judge/__main__.py", set()),  # a help text
    ],
)
def test_an_edit_concerns_the_stages_that_import_it(
    project: Project, file: str, expected: set[str]
) -> None:
    path = project.folder / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    status = json.loads(project.run("dvc", "status", "--json"))
    pipeline = YAML(typ="safe").load(project.read("dvc.yaml"))["stages"]
    assert {stage for stage in status if stage in pipeline} == expected


def test_another_detector_is_one_parameter_and_its_file_concerns_nobody_else(
    project: Project,
) -> None:
    path = project.folder / "src/models/dct_cnn.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    (project.folder / "src/models/another.py").write_text('"""A detector more."""\n')
    assert project.repro() == []
    project.set_params({"model.name": "dct_cnn"})
    assert project.repro("train") == ["weights", "train"]
    assert b"src/models/dct_cnn.py" in project.read("dvc.lock")
    assert json.loads(project.read("models/detector.json"))["name"] == "dct_cnn"
    path.write_text(path.read_text(encoding="utf-8") + "# again\n", encoding="utf-8")
    assert project.repro("--dry", "train") == ["train"]
    project.set_params({"model.name": "beit4"})
    printed = project.run("dvc", "repro", check=False)
    assert "model.name = 'beit4'" in printed
    assert "'beit3_tiny', 'dct_cnn'" in printed


def test_a_failing_gate_stops_training(project: Project) -> None:
    # The generated pictures have no grain, so their files are smaller.
    project.set_params({"shortcuts.max_file_auroc": 0.65, "train.seed": 2})
    printed = project.run("dvc", "repro", check=False)
    assert "error:" in printed
    assert "bytes" in printed or "length" in printed
    assert "Running stage 'train'" not in printed
    assert not (project.folder / "data/shortcuts.passed").exists()


def test_an_experiment_is_compared_with_its_base(project: Project) -> None:
    printed = project.run("dvc", "exp", "run", "--name", "another-seed", "-S", "train.seed=1")
    assert sorted(stages_run(printed)) == sorted(["train", *AFTER_TRAIN])
    assert "another-seed" in project.run("dvc", "exp", "show", "--no-pager", "--md")
    assert "train.seed" in project.run("dvc", "params", "diff", "HEAD")
    assert "mcc" in project.run("dvc", "metrics", "diff", "--all", "HEAD", "another-seed")
    printed = project.run("dvc", "plots", "diff", "HEAD", "another-seed", "--out", "page")
    assert "index.html" in printed
    compare = ("python", "-m", "studies.compare")
    printed = project.run(*compare, "main", "another-seed", "--json", "compared.json")
    assert "another-seed against main, on the same" in printed
    assert "McNemar" in printed
    assert json.loads(project.read("compared.json"))["first"] == "main"
    # The workspace holds what the experiment left.
    same = project.run(*compare, "another-seed")
    assert "Both give every test image the same verdict." in same
    # Back again, nothing is trained: of the longer stages DVC has kept every run.
    project.set_params({"train.seed": 0})
    assert sorted(project.repro()) == ["card", "evaluate"]
    assert project.run("git", "diff", "HEAD", "--name-only") == "params.yaml\n"  # its layout


def test_a_clean_clone_has_nothing_to_run(project: Project, tmp_path: Path) -> None:
    project.run("git", "clone", "--quiet", str(project.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone", project.environment)
    printed = clone.run("dvc", "repro", "--allow-missing", "--dry")
    assert "Running stage" not in printed


def test_a_released_model_judges_images_elsewhere(
    project: Project, images: Path, tmp_path: Path
) -> None:
    # GTO looks at annotated tags alone.
    project.run("git", "tag", "--annotate", "detector@v1.0.0", "--message", "First")
    place = tmp_path / "weights"
    project.run("dvc", "artifacts", "get", ".", "detector", "--rev", "v1.0.0", "--out", str(place))
    weights = "models/detector.safetensors"
    assert place.read_bytes() == project.read(weights)

    models = tmp_path / "models"
    project.run("dvc", "get", ".", "models", "--rev", "detector@v1.0.0", "--out", str(models))
    image = str(next(images.rglob("*.jpg")))
    judge = ("python", "-m", "judge", image, "--models", str(models), "--json")
    assert '"verdict"' in project.run(*judge)
