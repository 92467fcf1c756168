"""Tests of bench: every job at a hundredth of its size or less, and what is made of figures."""

import json
import math
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.jobs import JOBS, run_job
from bench.results import Figure, Outcome, at_least, at_most, record
from bench.timing import Cost, in_child, interleaved, ratio
from src.core.cli import InputError

OUTCOME = Outcome(
    [
        Figure("images/s", "the usual way", 6.25, at_least(5)),
        Figure("memory", "", 1.75, at_most(1.5, "GB")),
        Figure("images/s", "what is not installed", None, at_least(2)),
    ],
    {"images": 10},
    ("numpy", "no-such-package"),
)
# Packages that only `make bench` installs, and the figures that need them.
OTHERS = {"imagehash", "faiss", "webdataset", "Hugging Face", "s5cmd", "aws"}
NEEDS_S3 = ("transfer", "s3_ingest")


def test_a_goal_is_a_bound_that_may_be_touched() -> None:
    assert at_least(5).met_by(5)
    assert not at_least(5).met_by(4.99)
    assert at_most(1.03).met_by(1.03)
    assert not at_most(1.03).met_by(1.04)
    assert str(at_most(0.4, "GB")) == "≤ 0.4 GB"


def test_what_was_not_measured_misses_its_goal() -> None:
    assert [figure.met for figure in OUTCOME.figures] == [True, False, False]


def test_results_keep_what_other_runs_measured(tmp_path: Path) -> None:
    record("one", OUTCOME, 1.0, 2, tmp_path)
    first = json.loads((tmp_path / "results.json").read_text())["one"]
    record("other", Outcome([], files={"x.csv": b"a,b\n"}), 0.5, 2, tmp_path)
    jobs = json.loads((tmp_path / "results.json").read_text())
    assert jobs["one"] == first
    assert jobs["other"]["scale"] == 0.5
    assert first["packages"]["no-such-package"] == "not installed"
    assert (tmp_path / "x.csv").read_bytes() == b"a,b\n"
    assert (tmp_path / "results.md").read_text().splitlines()[2:] == [
        "| one | images/s | the usual way | ≥ 5 x | 6.25 x | yes |",
        "| one | memory |  | ≤ 1.5 GB | 1.75 GB | **no** |",
        "| one | images/s | what is not installed | ≥ 2 x | not measured | **no** |",
    ]


def test_the_ratio_is_the_median_over_rounds() -> None:
    costs = {"slow": [Cost(3, 1), Cost(8, 1), Cost(9, 1)], "fast": [Cost(1, 1), Cost(2, 1)] * 2}
    costs["fast"].pop()
    assert ratio(costs, "slow", "fast", "wall") == 4
    assert ratio(costs, "not here", "fast", "wall") is None


def test_work_is_interleaved_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    costs = interleaved(2, work)
    assert "".join(calls) == "ababab"
    assert [len(of_work) for of_work in costs.values()] == [2, 2]


def test_a_missed_goal_is_named_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "in_child", lambda *_: (OUTCOME, Cost(0, 0)))
    with pytest.raises(SystemExit, match="2 goals are missed") as error:
        bench.main(["loader", "--results", str(tmp_path)])
    assert "loader: memory: 1.75 GB, goal ≤ 1.5 GB" in str(error.value)
    assert "images/s against what is not installed: not measured" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["loadr"], "unknown job 'loadr'; choose from metadata"), (["--scale", "2"], "--scale 2.0:")],
)
def test_a_wrong_argument_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bench.main(arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [pytest.param(job, marks=pytest.mark.s3 if job in NEEDS_S3 else ()) for job in JOBS],
)
def test_every_job_measures_what_it_says(job: str) -> None:
    outcome, cost = in_child(run_job, job, 0.002)
    assert outcome.figures
    json.dumps(outcome.details)
    for figure in outcome.figures:
        if figure.value is None:
            assert any(name in figure.against for name in OTHERS), figure
        else:
            assert math.isfinite(figure.value), figure
    assert cost.cpu > 0
