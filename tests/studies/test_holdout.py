"""`make holdout`: how well a generator is told that training never saw."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.params import load_params
from src.core.tables import HOLDOUT
from studies.holdout import summary as study
from studies.holdout.summary import (
    HoldoutParams,
    Judged,
    bars_table,
    compare,
    document,
    page,
    rows_about,
)
from tests.conftest import ROOT, Project
from tests.helpers.make_predictions import EVALUATE, make_predictions, scored


def runs(images: int = 40) -> tuple[Judged, Judged]:
    """A run without stylegan2, whose fakes all score low, and the run with all."""
    trained = scored(make_predictions(images, seed=0))
    unseen = trained.copy()
    left_out = unseen["method"] == "stylegan2"
    unseen.loc[left_out, "split"] = HOLDOUT
    unseen.loc[left_out, "score"] *= 0.3
    return Judged(unseen, 0.5), Judged(trained, 0.5)


def test_an_unseen_generator_is_judged_against_the_reals_of_test() -> None:
    unseen, _ = runs()
    rows = rows_about(unseen, "stylegan2", HOLDOUT)
    assert set(rows.loc[rows["label"] == 1, "method"]) == {"stylegan2"}
    assert set(rows.loc[rows["label"] == 0, "split"]) == {"test"}
    assert (rows["label"] == 0).sum() == 120


def test_the_change_is_over_the_images_that_both_runs_judge() -> None:
    unseen, trained = runs()
    row = compare(unseen, trained, "stylegan2", EVALUATE)
    assert row["images"] == 80  # all of it: none was needed for training
    assert row["trained_images"] == row["shared_images"] == 40
    shared = trained.predictions.query("method == 'stylegan2' and split == 'test'")
    expected = (0.3 * shared["score"] >= 0.5).mean() - (shared["score"] >= 0.5).mean()
    assert row["recall_change"] == pytest.approx(expected)
    assert row["recall_change_high"] < 0
    assert row["recall_change_p"] < 0.05
    assert row["auroc"] < row["trained_auroc"]
    assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"]
    assert row["recall_low"] <= row["recall"] <= row["recall_high"]


def test_a_family_is_all_its_generators() -> None:
    unseen, trained = runs()
    held = unseen.predictions["family"] == "gan"
    unseen.predictions.loc[held, "split"] = HOLDOUT
    row = compare(unseen, trained, "gan", EVALUATE)
    assert row["generators"] == 2
    assert row["images"] == 160


def test_equal_thresholds_and_scores_change_nothing() -> None:
    _, trained = runs()
    same = trained.predictions.copy()
    same.loc[same["method"] == "lama", "split"] = HOLDOUT
    row = compare(Judged(same, 0.5), trained, "lama", EVALUATE)
    assert row["auroc_change"] == row["recall_change"] == 0
    assert row["recall_change_p"] == 1


def test_what_no_run_left_out_is_named() -> None:
    _, trained = runs()
    with pytest.raises(InputError, match="no image of 'glide' in split 'holdout'"):
        compare(trained, trained, "glide", EVALUATE)


def test_tables_and_page_put_both_side_by_side() -> None:
    unseen, trained = runs()
    table = pd.DataFrame([compare(unseen, trained, "stylegan2", EVALUATE)])
    bars = bars_table(table)
    assert bars["name"].tolist() == ["stylegan2, left out", "stylegan2, trained on"]
    assert bars["auroc"].tolist() == [table["auroc"][0], table["trained_auroc"][0]]
    assert "| stylegan2 " in page(table)
    assert set(document(table)["stylegan2"]) >= {"auroc", "trained_auroc", "recall_change"}
    few = page(table.assign(few=True))
    assert "| stylegan2 (few) " in few


def test_names_stand_once(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("holdout: {leave_out: [gan, gan]}")
    with pytest.raises(InputError, match=r"holdout\.leave_out.*twice"):
        load_params(HoldoutParams, "holdout", tmp_path / "params.yaml")


def test_a_run_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    missing = [str(tmp_path / name) for name in ("judged", "p.csv", "c.json", "results")]
    with pytest.raises(InputError, match=r"p\.csv is missing; run make holdout"):
        study.main(missing)


@pytest.mark.slow
def test_a_generator_is_left_out_and_compared_with_the_main_run(project: Project) -> None:
    params = project.folder / "studies/holdout/params.yaml"
    params.write_text("holdout:\n  leave_out: [glide]\n")
    printed = project.run("dvc", "repro", "studies/holdout/dvc.yaml")
    assert "Running stage 'train'" not in printed  # the main run is there already
    splits = pd.read_csv(project.folder / "studies/holdout/runs/glide/splits.csv")
    assert set(splits.loc[splits["method"] == "glide", "split"]) == {HOLDOUT}
    results = project.folder / "studies/holdout/results"
    found = json.loads((results / "metrics.json").read_text())["holdout"]["glide"]
    assert np.isfinite(list(found.values())).all()
    main = json.loads(project.read("metrics/evaluate.json"))
    assert found["trained_recall"] == pytest.approx(main["recall"]["glide"], abs=1e-4)
    alone = project.folder / "studies/holdout/judged/glide/evaluate.json"
    assert found["auroc"] == pytest.approx(
        json.loads(alone.read_text())["holdout"]["auroc"], abs=1e-4
    )
    assert "Running stage" not in project.run("dvc", "repro", "studies/holdout/dvc.yaml")
