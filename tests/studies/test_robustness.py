"""`make robustness`: what is left of a detector on corrupted images."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.params import load_params
from src.evaluation.calibration import Calibration
from src.evaluation.results import compute_results
from src.images import loader as loading
from src.images.decode import RGBImage, decode
from src.images.loader import WORKERS_VARIABLE
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import build_detector
from src.predict import PredictParams, predict
from src.splitting.assignment import SplitParams
from studies.robustness.conditions import CLEAN, Condition, RobustnessParams
from studies.robustness.figure import draw
from studies.robustness.flips import flips, flips_text
from studies.robustness.scores import drawn, scores
from studies.robustness.summary import curves, page, summary
from tests.conftest import ROOT, Project
from tests.helpers.make_metadata import make_metadata
from tests.helpers.make_predictions import EVALUATE, make_predictions
from tests.helpers.make_training import make_split
from tests.helpers.splitting import balanced_split

FEW = RobustnessParams(
    jpeg=(90, 30),
    webp=(),
    resize=(0.5,),
    blur=(1.0,),
    noise=(0.05,),
    crop=(),
    brightness=(),
    screenshots=(2,),
    resize_jpeg=(),
    jpeg_resize=(70,),
    processings=("jpeg 30", "jpeg_resize 70"),
    max_images=100,
    seed=0,
    batch_size=4,
    threads=1,
)
CALIBRATION = Calibration(temperature=0.8, threshold=0.45, ood_distance=1.0)
WANTED = [Condition("jpeg", 30), Condition("blur", 1.0), Condition("resize", 0.5)]


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "0")


@pytest.mark.usefixtures("no_workers")
def test_an_image_is_decoded_once_and_scored_as_the_stage_predict_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    table = make_split(tmp_path / "raw", (("train", 1), ("test", 3)))
    model = ModelParams(
        name="beit3_nano", backbone="", weights="none", image_size=32, view="native", drop_path=0.0
    )
    detector = build_detector(model, ("real", "fake"), seed=0).eval()
    params = PredictParams(2, 4, 1, knn_images=4, knn_neighbours=1, seed=0)
    expected = predict(table, tmp_path / "raw", detector, params, Accelerator()).table
    decoded = []

    def counted(data: bytes) -> RGBImage:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(loading, "decode", counted)
    test = table[table["split"] == "test"]
    logits = scores(test, tmp_path / "raw", detector, 2, FEW)
    assert len(test) == 12
    assert len(decoded) == 13  # the first once more: its crops say how large a batch is
    assert logits[CLEAN].to_numpy() == pytest.approx(expected["logit"].to_numpy(), abs=2e-5)
    names = ["jpeg 30", "jpeg 90", "resize 0.5", "blur 1", "noise 0.05", "screenshots 2"]
    names += ["jpeg_resize 70"]
    assert list(logits.columns) == ["image_id", "method", "group", "label", CLEAN, *names]
    for name in names:
        assert (logits[name] != logits[CLEAN]).any()
    again = scores(test, tmp_path / "raw", detector, 2, FEW)
    pd.testing.assert_frame_equal(logits, again)


def test_a_draw_depends_on_the_images_alone() -> None:
    table = make_predictions(40, seed=0)
    few = replace(FEW, max_images=30)
    chosen = set(drawn(table, few)["image_id"])
    assert len(chosen) == 30
    assert set(drawn(table.iloc[::-1], few)["image_id"]) == chosen
    assert chosen < set(drawn(table, FEW)["image_id"])


def test_a_draw_from_a_split_of_the_same_seed_holds_every_method() -> None:
    params = load_params(SplitParams, "split", ROOT / "params.yaml")
    splits = balanced_split(make_metadata(images_per_method=400), replace(params, seed=FEW.seed))
    test = splits[splits["split"] == "test"]
    share = drawn(test, FEW)["method"].value_counts(normalize=True)
    expected = test["method"].value_counts(normalize=True)
    assert (share.reindex(expected.index, fill_value=0) - expected).abs().max() < 0.15


def made_logits() -> pd.DataFrame:
    """Logits that corruption weakens: JPEG by half, blur altogether."""
    table = make_predictions(40, seed=0)
    test = table[table["split"] == "test"].reset_index(drop=True)
    noise = np.random.default_rng(0).normal(0, 1, len(test))
    logits = {CLEAN: test["logit"], "jpeg 30": test["logit"] / 2 + noise}
    logits |= {"blur 1": pd.Series(noise), "resize 0.5": test["logit"] - 1}
    return test[["image_id", "method", "group", "label"]].join(pd.DataFrame(logits))


def test_each_point_is_what_the_stage_evaluate_would_say() -> None:
    logits = made_logits()
    table = curves(logits, WANTED, CALIBRATION, EVALUATE).set_index(["corruption", "level"])
    for condition in WANTED:
        predictions = make_predictions(40, seed=0).query("split == 'test'")
        logit = logits[condition.column].to_numpy()
        scored = predictions.assign(logit=logit, score=CALIBRATION.probability(logit))
        judged = compute_results(scored, CALIBRATION.threshold, EVALUATE).metrics
        for name in ("auroc", "mcc", "recall", "specificity"):
            assert table.loc[condition, name] == pytest.approx(judged[name][0])
        assert table.loc[condition, "auroc_low"] == pytest.approx(judged["auroc"][1], abs=0.03)


def test_curves_begin_with_the_untouched_images_where_a_level_says_so() -> None:
    table = curves(made_logits(), WANTED, CALIBRATION, EVALUATE)
    clean = table.iloc[0]
    assert clean["corruption"] == CLEAN
    for name, level in (("blur", 0.0), ("resize", 1.0)):
        start = table[(table["corruption"] == name) & (table["level"] == level)].iloc[0]
        assert start["auroc"] == clean["auroc"]
    assert table[table["corruption"] == "jpeg"]["level"].tolist() == [30]
    assert (table["mcc_clean"] == clean["mcc"]).all()


def test_the_summary_leaves_the_untouched_images_out_of_mean_and_worst() -> None:
    table = curves(made_logits(), WANTED, CALIBRATION, EVALUATE)
    document = summary(table)
    blurred = table.query("corruption == 'blur' and level == 1").iloc[0]
    assert document["blur"]["auroc_mean"] == document["blur"]["auroc_worst"] == blurred["auroc"]
    assert document["jpeg"]["auroc_worst"] < document[CLEAN]["auroc"]
    assert json.dumps(document)


def test_the_page_names_every_condition_once() -> None:
    logits = made_logits()
    text = page(curves(logits, WANTED, CALIBRATION, EVALUATE), len(logits), 100)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 1 + len(WANTED)
    assert "on 240 test images of 100 groups" in text


def test_verdicts_that_change_are_counted_by_picture_and_by_processing() -> None:
    logits = pd.DataFrame(
        {
            CLEAN: [3.0, 3.0, -3.0, -3.0, 0.1],
            "jpeg 30": [3.0, -3.0, -3.0, -0.1, 0.1],
            "blur 1": [3.0, 3.0, 3.0, -3.0, -0.1],
            "label": [1, 1, 0, 0, 0],
            "group": list("abcde"),
        }
    )
    calibration = replace(CALIBRATION, temperature=1.0, threshold=0.5, unsure=(0.4, 0.6))
    table = flips(logits, ["jpeg 30", "blur 1"], calibration, EVALUATE).set_index("pictures")
    assert list(table["images"]) == [5, 3, 2]
    assert table.loc["all", "changed"] == pytest.approx(3 / 10)
    assert table.loc["all", "any"] == pytest.approx(3 / 5)
    assert table.loc["all", "opposite"] == pytest.approx(2 / 5)  # the last was unsure all along
    assert table.loc["fake", "any"] == pytest.approx(1 / 2)
    assert (table["any_low"] <= table["any"]).all()
    text = flips_text(table.reset_index(), ["jpeg 30", "blur 1"])
    assert "after jpeg 30, blur 1" in text


def test_processings_that_change_nothing_flip_nothing() -> None:
    logits = made_logits()
    table = flips(logits.assign(same=logits[CLEAN]), ["same"], CALIBRATION, EVALUATE)
    assert (table[["changed", "any", "opposite"]] == 0).all(axis=None)


def test_a_processing_that_is_no_condition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'jpeg 71' is no condition; choose from \['jpeg 30'"):
        replace(FEW, processings=("jpeg 71",))


@pytest.mark.parametrize("wanted", [[], WANTED[:1], WANTED])
def test_any_number_of_corruptions_is_drawn(wanted: list[Condition]) -> None:
    figure = draw(curves(made_logits(), wanted, CALIBRATION, EVALUATE))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == len(wanted)


def test_a_quality_of_nothing_is_refused(tmp_path: Path) -> None:
    text = "robustness: {jpeg: [0], webp: [], resize: [], blur: [], noise: [], crop: [], "
    (tmp_path / "params.yaml").write_text(
        text + "brightness: [], screenshots: [], resize_jpeg: [], jpeg_resize: [], "
        "processings: [], max_images: 9, seed: 0, batch_size: 1, threads: 1}"
    )
    with pytest.raises(InputError, match=r"robustness\.jpeg\.0 = 0"):
        load_params(RobustnessParams, "robustness", tmp_path / "params.yaml")


@pytest.mark.slow
def test_the_detector_of_the_pipeline_is_followed_along_every_corruption(project: Project) -> None:
    params = project.folder / "studies/robustness/params.yaml"
    sections = {"robustness": {**FEW.__dict__, "seed": 0}}
    params.write_text(json.dumps(sections, default=list))  # JSON is YAML
    printed = project.run("dvc", "repro", "studies/robustness/dvc.yaml")
    assert "Running stage 'train'" not in printed
    results = project.folder / "studies/robustness/results"
    clean = json.loads((results / "metrics.json").read_text())["robustness"][CLEAN]
    main = json.loads(project.read("metrics/evaluate.json"))["test"]
    assert clean["auroc"] == pytest.approx(main["auroc"], abs=1e-3)
    assert clean["mcc"] == pytest.approx(main["mcc"], abs=1e-3)
    assert len(pd.read_csv(results / "curves.csv")) == 1 + 2 + 2 + 2 + 2 + 2 + 1
    assert list(pd.read_csv(results / "flips.csv")["pictures"]) == ["all", "real", "fake"]
    project.commit("Robustness")
    params.write_text(params.read_text().replace("30", "20"))  # the processing as well
    again = project.run("dvc", "repro", "studies/robustness/dvc.yaml")
    assert "studies/robustness/dvc.yaml:scores" in again
    page_of_both = project.run("dvc", "plots", "diff", "HEAD", "--out", "page")
    assert "index.html" in page_of_both
    assert "Robustness, AUROC" in (project.folder / "page/index.html").read_text()


@pytest.mark.slow
def test_the_pipeline_itself_runs_no_study(project: Project) -> None:
    assert project.repro() == []
    assert "Running stage" not in project.run("dvc", "repro", "--allow-missing", "--dry")
    assert not list(project.folder.glob("studies/*/dvc.lock"))
    project.run("dvc", "remote", "add", "--default", "here", str(project.folder / "remote"))
    project.run("dvc", "push")
    project.run("dvc", "pull")
