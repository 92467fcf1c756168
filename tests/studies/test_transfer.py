"""`make transfer`: what the trained detector is worth on images that it was not trained on."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge import Judge
from src.core.cli import InputError
from src.core.hashing import image_key
from src.core.tables import read_table, write_table
from src.dataset.columns import METADATA, SPLIT_TABLE
from src.dataset.image_stats import Measures, measure
from src.evaluation.calibration import Calibration
from src.evaluation.results import compute_results
from src.images.shards import ShardReader
from src.sources.folder import CLASS_NAMES
from studies.transfer import run as study
from studies.transfer.figures import ALL_TITLES, figures, with_verdicts
from studies.transfer.judged import judge_contents, open_sets, without_trained
from tests.conftest import ROOT
from tests.helpers.make_data import encode, make_artifact_folder, make_class_folder, make_image
from tests.helpers.make_predictions import EVALUATE, make_predictions
from tests.judge.conftest import trained_judge  # noqa: F401 - a fixture

CALIBRATION = Calibration(temperature=0.8, threshold=0.45, ood_distance=0.7, unsure=(0.3, 0.6))


def judged_test() -> pd.DataFrame:
    table = with_verdicts(make_predictions(40, seed=0), CALIBRATION)
    return table[table["split"] == "test"].reset_index(drop=True)


def value(table: pd.DataFrame, name: str) -> float:
    return float(table.set_index("figure")["value"][name])


def test_figures_are_those_of_the_stage_evaluate_at_the_frozen_threshold() -> None:
    judged = judged_test()
    table = figures(judged, CALIBRATION.threshold, EVALUATE)
    expected = compute_results(judged, CALIBRATION.threshold, EVALUATE).metrics
    assert list(table["figure"]) == list(ALL_TITLES)
    for name in ("mcc", "auroc", "ap", "recall", "specificity"):
        assert value(table, name) == pytest.approx(expected[name][0])
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_every_image_is_warned_of_or_unsure_or_judged() -> None:
    judged = judged_test()
    table = figures(judged, CALIBRATION.threshold, EVALUATE)
    unlike = judged["distance"] > CALIBRATION.ood_distance
    assert value(table, "unlike_training") == pytest.approx(unlike.mean())
    assert sum(value(table, n) for n in ("unlike_training", "unsure", "judged")) == pytest.approx(1)
    plain = judged[~unlike & (judged["verdict"] != "unsure")].reset_index(drop=True)
    alone = figures(plain, CALIBRATION.threshold, EVALUATE)
    assert value(table, "judged_auroc") == pytest.approx(value(alone, "auroc"))
    right = (plain["verdict"] == "fake") == (plain["label"] == 1)
    assert value(table, "judged_right") == pytest.approx(right.mean())


@pytest.mark.parametrize("labels", [[], [0], [1]])
def test_what_cannot_be_said_has_no_value(labels: list[int]) -> None:
    judged = judged_test()
    kept = judged["label"].isin(labels)
    judged = judged.assign(unlike_training=~kept, verdict="fake")
    table = figures(judged, CALIBRATION.threshold, EVALUATE)
    assert np.isnan(value(table, "judged_auroc"))
    assert np.isnan(value(table, "judged_right")) == (not labels)
    assert np.isfinite(value(table, "auroc"))


def test_near_duplicates_of_training_images_are_left_out() -> None:
    pictures = [make_image(seed, 96) for seed in range(4)]

    def described(name: str, data: bytes) -> dict[str, object]:
        measures = measure(data)._asdict()
        digest = hashlib.sha256(data).hexdigest()
        return {"image_id": name, "group": name, "sha256": digest, **measures}

    def table(*rows: dict[str, object]) -> pd.DataFrame:
        found = pd.DataFrame(rows)
        return found.assign(key=[image_key(str(name)) for name in found["image_id"]])

    trained = table(described("a/0.jpg", encode(pictures[0])))
    again = encode(pictures[0], quality=70)
    twins = [
        described(f"set/b/{i}.jpg", encode(pictures[1], quality=q)) for i, q in ((1, 90), (2, 60))
    ]
    other = table(
        described("set/b/0.jpg", again), *twins, described("set/c.jpg", encode(pictures[2]))
    )
    left, count = without_trained(other, trained, max_distance=4)
    assert count == 1
    assert list(left["image_id"]) == ["set/b/1.jpg", "set/b/2.jpg", "set/c.jpg"]
    assert left["group"].nunique() == 2


@pytest.fixture(name="project")
def trained_project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what `dvc repro` leaves, as far as the study reads it."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("bootstrap_rounds: 1000", "bootstrap_rounds: 99"))
    shutil.copytree(trained / "exported", "models")
    Path("data").mkdir()
    for name in ("predictions.csv", "splits.csv"):
        shutil.copy(trained / name, Path("data") / name)
    splits = read_table(Path("data/splits.csv"), SPLIT_TABLE)
    reader, rows = ShardReader(trained / "raw"), []
    for row in splits.to_dict("records"):
        data = reader.read(row["shard"], row["offset"], row["length"])
        digest = hashlib.sha256(data).hexdigest()
        rows.append((image_key(row["image_id"]), digest, "", *measure(data)))
    described = pd.DataFrame(rows, columns=["key", "sha256", "given_split", *Measures._fields])
    write_table(splits.join(described), Path("data/metadata.csv"), METADATA)
    return tmp_path


ARGUMENTS = ["--models", "models", "--results", "results"]


def test_two_sets_stand_beside_the_test_set(project: Path) -> None:
    make_artifact_folder(project / "elsewhere", 8, size=72)
    make_class_folder(project / "plain", 8, size=80)
    study.main(["elsewhere", "plain", *ARGUMENTS])
    document = json.loads((project / "results/metrics.json").read_text())["transfer"]
    assert set(document) == {"test", "elsewhere", "plain"}
    assert document["elsewhere"]["images"] == 32 - 6
    assert document["plain"]["images"] == 16
    text = (project / "results/README.md").read_text()
    assert "## elsewhere: called right, by slice" in text
    assert "Left out: 6 near-duplicates" in text  # pictures of the same seeds were trained on
    slices = pd.read_csv(project / "results/slices.csv")
    assert {"stylegan2, fake", "ffhq, real"} <= set(
        slices.loc[slices["set"] == "elsewhere", "name"]
    )
    table = pd.read_csv(project / "results/figures.csv")
    assert len(table) == 3 * len(ALL_TITLES)
    before = {path: path.read_bytes() for path in (project / "results").iterdir()}
    study.main(["elsewhere", "plain", *ARGUMENTS])
    assert {path: path.read_bytes() for path in (project / "results").iterdir()} == before


def test_its_figures_are_what_the_judge_says(project: Path) -> None:
    make_class_folder(project / "plain", 8, size=80)
    study.main(["plain", "--images", "6", *ARGUMENTS])
    document = json.loads((project / "results/metrics.json").read_text())["transfer"]
    assert document["plain"]["images"] == 12
    judge = Judge.load(project / "models")
    verdicts = [judge(path) for path in (project / "plain").rglob("*.jpg")]
    contents = [(path.name, path.read_bytes()) for path in (project / "plain").rglob("*.jpg")]
    table, unreadable = judge_contents(contents, judge, batch_size=3)
    assert not unreadable
    assert list(table["unlike_training"]) == [verdict.unlike_training for verdict in verdicts]
    assert list(table["score"]) == pytest.approx([verdict.probability for verdict in verdicts])


def test_training_images_are_not_judged_anew(project: Path, trained: Path) -> None:
    splits = read_table(project / "data/splits.csv", SPLIT_TABLE)
    make_class_folder(project / "plain", 8, size=80)
    for row in splits[splits["split"] == "train"].to_dict("records"):
        data = ShardReader(trained / "raw").read(row["shard"], row["offset"], row["length"])
        name = row["image_id"].replace("/", "-")
        folder = project / "plain" / ("fake" if row["label"] else "real")
        (folder / name).write_bytes(data)
    study.main(["plain", *ARGUMENTS])
    document = json.loads((project / "results/metrics.json").read_text())["transfer"]
    assert document["plain"]["images"] == 16
    assert "Left out: " in (project / "results/README.md").read_text()


def test_a_damaged_image_is_named(project: Path) -> None:
    make_class_folder(project / "plain", 4, size=80)
    (project / "plain/fake/0001.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 8 images do not decode.*fake/0001\.jpg"):
        study.main(["plain", *ARGUMENTS])
    assert not (project / "results").exists()


def test_without_the_pipelines_files_it_says_what_to_do(project: Path) -> None:
    make_class_folder(project / "plain", 4, size=80)
    (project / "data/metadata.csv").unlink()
    with pytest.raises(InputError, match=r"metadata\.csv is missing: run `dvc pull`"):
        study.main(["plain", *ARGUMENTS])


def test_sets_of_one_name_or_without_a_source_are_refused(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        make_class_folder(tmp_path / parent / "faces", 2)
    both = [str(tmp_path / parent / "faces") for parent in ("one", "two")]
    with pytest.raises(InputError, match="'faces' is the name of two sets"):
        open_sets(["folder"], both, CLASS_NAMES)
    with pytest.raises(InputError, match="3 sources for 2 data sets"):
        open_sets(["folder"] * 3, both, CLASS_NAMES)
    with pytest.raises(InputError, match=r"download\.source: 'nothing' is unknown"):
        open_sets(["nothing"], both[:1], CLASS_NAMES)
