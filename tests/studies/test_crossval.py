"""`make crossval`: one training run per fold, and what their figures say together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.cli import InputError
from src.core.params import load_params
from studies.crossval import summary as study
from studies.crossval.summary import (
    CrossvalParams,
    corrected_interval,
    folds_table,
    methods_table,
    page,
    summary,
)
from tests.conftest import ROOT, Project


def evaluation(mcc: float, lama: float = 0.5) -> dict[str, Any]:
    figures: dict[str, float] = {}
    for name in ("mcc", "ap", "auroc", "balanced_accuracy"):
        figures |= {name: mcc, f"{name}_low": mcc - 0.1, f"{name}_high": mcc + 0.1}
    counts = {"true_positives": 8, "false_positives": 1, "false_negatives": 2, "true_negatives": 9}
    return {
        "threshold": 0.4,
        "test": figures,
        "confusion": counts,
        "recall": {"lama": lama, "glide": 1.0},
        "specificity": {"coco": 0.9},
    }


EVALUATIONS = {0: evaluation(0.7, 0.2), 1: evaluation(0.8, 0.4), 2: evaluation(0.9, 0.9)}


def test_the_interval_is_the_one_worked_out_by_hand() -> None:
    # s = 0.1, t(2 degrees, 97.5 %) = 4.302653, variance of the mean (1/3 + 1/4) s^2.
    low, high = corrected_interval(np.array([0.7, 0.8, 0.9]), 0.25, 0.95)
    assert (low + high) / 2 == pytest.approx(0.8)
    assert (high - low) / 2 == pytest.approx(4.302653 * 0.1 * np.sqrt(1 / 3 + 1 / 4), rel=1e-6)


@given(
    values=st.lists(st.floats(-1, 1), min_size=2, max_size=10),
    ratio=st.floats(0, 1),
    extra=st.floats(0.01, 1),
)
def test_more_overlap_never_gives_a_narrower_interval(
    values: list[float], ratio: float, extra: float
) -> None:
    low, high = corrected_interval(np.array(values), ratio, 0.95)
    wider = corrected_interval(np.array(values), ratio + extra, 0.95)
    assert wider.low <= low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= high <= wider.high


def test_mean_and_spread_are_over_the_folds() -> None:
    document = summary(folds_table(EVALUATIONS), 0.25, 0.95)
    assert document["folds"] == 3
    assert document["mcc"] == pytest.approx(0.8)
    assert document["mcc_sd"] == pytest.approx(0.1)  # of a sample: divided by 2, not by 3
    assert document["auroc_high"] == 1  # no figure exceeds what it can be
    assert document["mcc_low"] == pytest.approx(0.8 - 0.328617, abs=1e-5)


def test_each_method_has_its_mean_over_the_folds_that_test_it() -> None:
    table = methods_table(EVALUATIONS).set_index("method")
    assert table.loc["lama", "mean"] == pytest.approx(0.5)
    assert table.loc["lama", "lowest"] == 0.2
    assert table.loc["glide", "sd"] == 0
    assert table["folds"].tolist() == [3, 3, 3]


def test_the_page_shows_every_fold_and_the_mean() -> None:
    folds = folds_table(EVALUATIONS)
    text = page(folds, summary(folds, 0.25, 0.95), 0.95)
    assert "| 0 " in text
    assert "0.700 (0.600 to 0.800)" in text
    assert "0.800 ± 0.100" in text
    assert "| mean ± sd | 60 " in text


@pytest.mark.parametrize("folds", ["[0]", "[0, 0]", "[-1, 1]"])
def test_folds_that_say_nothing_about_spread_are_refused(tmp_path: Path, folds: str) -> None:
    (tmp_path / "params.yaml").write_text(f"crossval: {{folds: {folds}}}")
    with pytest.raises(InputError, match=r"crossval\.folds"):
        load_params(CrossvalParams, "crossval", tmp_path / "params.yaml")


def test_a_fold_that_has_not_been_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"judged/0: fold 0 has not been run"):
        study.main([str(tmp_path / "judged"), str(tmp_path / "results")])


@pytest.mark.slow
def test_two_folds_are_run_summed_up_and_left_alone(project: Project) -> None:
    params = project.folder / "studies/crossval/params.yaml"
    params.write_text("crossval:\n  folds: [1, 3]\n")
    project.set_params({"train.epochs": 1})
    # The pipeline itself is not what is tested here, and a study does not need its last stages.
    printed = project.run("dvc", "repro", "studies/crossval/dvc.yaml")
    assert "train@3" in printed
    results = project.folder / "studies/crossval/results"
    document = json.loads((results / "metrics.json").read_text())["crossval"]
    assert document["folds"] == 2
    assert document["test_over_train"] == pytest.approx(2 / 7, rel=0.2)
    folds = pd.read_csv(results / "folds.csv")
    assert document["mcc"] == pytest.approx(folds["mcc"].mean(), abs=1e-4)
    assert set(pd.read_csv(results / "pr.csv")["fold"]) == {1, 3}
    tested = [
        set(table.loc[table["split"] == "test", "image_id"])
        for table in (
            pd.read_csv(project.folder / f"studies/crossval/judged/{fold}/predictions.csv")
            for fold in (1, 3)
        )
    ]
    assert not tested[0] & tested[1]
    again = project.run("dvc", "repro", "studies/crossval/dvc.yaml")
    assert "Running stage" not in again
    shown = project.run("dvc", "metrics", "show", "studies/crossval/results/metrics.json")
    assert "crossval.mcc" in shown
