import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from src.core.cli import InputError
from src.core.params import load_params
from src.models.shared.blueprint import ModelParams, names
from src.predict import PredictParams
from src.training.augmentation import AugmentParams
from src.training.config import TrainParams
from studies.baselines.run import RECIPES, at_budget, changed, read_recipes, write_results
from tests.conftest import Project, stages_run
from tests.helpers import ROOT

SECTIONS = {
    "augment": AugmentParams,
    "model": ModelParams,
    "predict": PredictParams,
    "train": TrainParams,
}


WEIGHTS = {"CLIP": "clip.safetensors", "BEIT3_BASE": "in22k_ft_in1k", "BEIT3_LARGE": "large.pth"}


def test_all_detectors_but_the_toy_are_baselines() -> None:
    recipes = read_recipes(ROOT / RECIPES, WEIGHTS)
    assert set(names()) - set(recipes) == {"beit3_nano"}


@pytest.mark.parametrize("name", read_recipes(ROOT / RECIPES, WEIGHTS))
def test_every_recipe_is_valid(name: str, tmp_path: Path) -> None:
    recipe = read_recipes(ROOT / RECIPES, WEIGHTS)[name]
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(changed(params, recipe)))
    for section, cls in SECTIONS.items():
        load_params(cls, section, path)
    assert all(key.split(".")[1] in params[key.split(".")[0]] for key in recipe)


def test_a_recipe_is_shortened_as_a_whole() -> None:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    train = {"epochs": 24, "warmup_epochs": 2, "ema_decay": 0.995, "patience": 24}
    params["train"] |= train
    recipe = at_budget({"model.name": "npr", "train.learning_rate": 0.001}, params, 6)
    assert recipe == {
        "model.name": "npr",
        "train.learning_rate": 0.001,
        "train.epochs": 6,
        "train.patience": 6,
        "train.warmup_epochs": 0.5,
        "train.ema_decay": 0.98015,  # it forgets in a quarter of the updates
    }
    assert at_budget({"train.ema_decay": 0.0}, params, 6)["train.ema_decay"] == 0.0


def test_without_its_weights_a_detector_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    recipes = read_recipes(ROOT / RECIPES, {"CLIP": ""})
    assert {"beit3_tiny", "xray"} <= set(recipes)
    assert not {"univfd", "univfd_knn", "beit3_base", "beit3_large"} & set(recipes)
    assert "beit3_base left out: set BEIT3_BASE to its weights" in caplog.text


def test_weights_are_a_file_of_this_folder_or_a_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.safetensors").touch()
    recipes = read_recipes(ROOT / RECIPES, WEIGHTS)
    assert recipes["univfd"]["model.weights"] == str(tmp_path / "clip.safetensors")
    assert recipes["beit3_base"]["model.weights"] == "in22k_ft_in1k"


def test_one_that_is_named_without_its_weights_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "studies.baselines.run", "beit3_base"],
        cwd=ROOT,
        env=os.environ | {"BEIT3_BASE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "beit3_base left out: set BEIT3_BASE to its weights" in done.stderr
    assert "error: studies/baselines/recipes.yaml has no ['beit3_base'] to run" in done.stderr


def test_an_unknown_detector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("beit4: {}\n")
    with pytest.raises(InputError, match="'beit4' is not a detector; choose among"):
        read_recipes(path, {})


def test_a_detector_may_have_no_changes(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("resnet50:\nxray: {}\n")
    recipes = read_recipes(path, {})
    assert recipes == {name: {"model.name": name} for name in ("resnet50", "xray")}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "holds None"),
        ("{}", "holds {}"),
        ("- resnet50", r"holds \['resnet50'\]"),
        ("resnet50", "holds 'resnet50'"),
        ("resnet50: 5", "resnet50 has 5"),
        ("resnet50: [train.epochs]", "resnet50 has "),
        ("resnet50: {epochs: 5}", "resnet50 has {'epochs': 5}"),
        ("resnet50: {train: {epochs: 5}}", "resnet50 has "),
    ],
)
def test_recipes_of_another_form_are_named(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"recipes.yaml:? {found}.*; expected a line for each"):
        read_recipes(path, {})


def test_recipes_that_are_no_yaml_are_named(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("resnet50: {\n")
    with pytest.raises(InputError, match=r"recipes.yaml: not YAML: .*line 2"):
        read_recipes(path, {})


def test_the_table_has_detectors_and_probes_the_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").mkdir()
    probe = {"value": 0.8, "low": 0.7, "high": 0.9}
    Path("metrics/shortcuts.json").write_text(json.dumps({"auroc": {"mean_colour": probe}}))
    figures = {f"mcc{bound}": 0.5 for bound in ("", "_low", "_high")}
    rows: dict[str, Any] = {
        name: {
            **figures,
            **{"auroc": auroc, "auroc_low": 0.6, "auroc_high": 0.95},
            **{"parameters": 1234567, "images_seen": 26880},
        }
        for name, auroc in (("npr", 0.7), ("xray", 0.9))
    }
    write_results(rows, {"npr": 12.3})
    expected = """\
| detector | MCC | AUROC | parameters | images seen | CPU s |
| xray | 0.500 (0.500 to 0.500) | 0.900 (0.600 to 0.950) | 1,234,567 | 26,880 | |
| probe: mean colour | | 0.800 (0.700 to 0.900) | | | |
| npr | 0.500 (0.500 to 0.500) | 0.700 (0.600 to 0.950) | 1,234,567 | 26,880 | 12 |
"""
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines(keepends=True) if "---" not in line]
    assert re.sub(" +", " ", "".join(lines)) == expected
    assert Path("studies/baselines/results.md").read_text() == printed
    assert Path("studies/baselines/results.csv").read_text().splitlines()[1].startswith("xray,0.5,")


@pytest.mark.slow
def test_an_interrupted_series_continues_and_what_is_finished_is_left_alone(
    project: Project,
) -> None:
    path = project.folder / RECIPES
    path.write_text("dct_cnn: {train.epochs: 1}\nbeit3_nano: {}\n")  # the second has been run
    project.commit("Two small baselines")
    interrupted = project.run("python", "-m", "studies.baselines.run", "beit3_nano")
    assert "Running stage 'train'" not in interrupted
    printed = project.run("python", "-m", "studies.baselines.run")
    assert printed.count("Running stage 'train'") == 1
    assert time_of("beit3_nano", project) == ""  # trained before: its time says nothing
    assert int(time_of("dct_cnn", project)) > 0
    path.write_text("dct_cnn: {train.epochs: 1, evaluate.seed: 1}\nbeit3_nano: {}\n")
    changed_one = project.run("python", "-m", "studies.baselines.run")
    assert stages_run(changed_one) == ["evaluate"]
    assert changed_one.count("Ran experiment") == 1  # the finished one is not even looked at
    assert time_of("dct_cnn", project) == ""  # DVC's run cache had it
    assert project.run("git", "status", "--porcelain", "--", "params.yaml", "models") == ""


def time_of(detector: str, project: Project) -> str:
    table = project.read("studies/baselines/results.md").decode()
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    [row] = [row for row in rows if row[1:2] == [detector]]
    return row[-2]
