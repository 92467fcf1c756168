import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

from src import predict as stage
from src.calibration import Calibration, save_calibration
from src.command import InputError
from src.decode import decode
from src.own_images import SOME_UNREADABLE, find_images, load_judge
from src.schema import PREDICTIONS, SPLIT_TABLE, read_table
from src.shards import ShardReader
from tests.conftest import ROOT
from tests.make_training import write_detector_inputs
from tests.test_predict import ARGUMENTS, PARAMS

CALIBRATION = Calibration(temperature=0.5, threshold=0.6, far_distance=0.01)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a run leaves: a model's folder, predictions, and the test images as loose files."""
    folder = tmp_path_factory.mktemp("trained")
    write_detector_inputs(folder, vars(PARAMS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setenv("REAL_OR_GENERATED_WORKERS", "0")
        stage.main(ARGUMENTS)
        (folder / "models").mkdir()
        for name in ("detector.safetensors", "detector.json", "reference.safetensors"):
            shutil.copy(folder / name, folder / "models" / name)
        save_calibration(CALIBRATION, folder / "models/calibration.json")
        splits = read_table(folder / "splits.csv", SPLIT_TABLE)
        for row in splits[splits["split"] == "test"].itertuples():
            path = folder / "images" / str(row.image_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            place = str(row.shard), int(str(row.offset)), int(str(row.length))
            path.write_bytes(ShardReader(folder / "raw").read(*place))
        yield folder
    # The stage asks for them; they must not slow down or refuse what other tests do.
    torch.use_deterministic_algorithms(False)


@pytest.fixture(name="images")
def copied_images(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained / "images", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return tmp_path / "images"


def judged(trained: Path, *arguments: str) -> None:
    stage.main([*arguments, "--models", str(trained / "models")])


def test_a_folder_is_judged_as_the_stage_judges_it(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(trained, images.name, "--json", "--batch-size", "3")
    document = json.loads(capsys.readouterr().out)
    predictions = read_table(trained / "predictions.csv", PREDICTIONS)
    expected = predictions[predictions["split"] == "test"].set_index("image_id")

    assert document["unreadable"] == []
    assert document["threshold"] == CALIBRATION.threshold
    assert len(document["images"]) == len(expected) == 8
    for found in document["images"]:
        row = expected.loc[str(Path(found["path"]).relative_to("images"))]
        probability = expit(row["logit"] / CALIBRATION.temperature)
        assert found["probability"] == pytest.approx(probability, abs=1e-5)
        assert found["distance"] == pytest.approx(row["distance"], abs=1e-4)
        assert found["verdict"] == ("fake" if probability >= CALIBRATION.threshold else "real")
        assert found["unlike_training"] == (found["distance"] > CALIBRATION.far_distance)


def test_what_is_no_image_is_named_and_the_rest_is_judged(
    trained: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = sorted(images.rglob("*.jpg"))
    whole[0].write_bytes(whole[0].read_bytes()[:200])
    (images / "empty.png").touch()
    (images / "notes.txt").write_text("not looked at")
    with pytest.raises(SystemExit, match=str(SOME_UNREADABLE)):
        judged(trained, "images", "absent.jpg", "--csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert [row["path"] for row in rows] == [
        str(path.relative_to(images.parent)) for path in whole[1:]
    ]
    for name in (whole[0].name, "empty.png", "absent.jpg: not judged: No such file"):
        assert name in caplog.text
    assert "notes.txt" not in caplog.text


def test_the_table_is_for_people(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((70, 50, 3), dtype=np.uint8)).save(images / "black.png")
    judged(trained, "images")
    *lines, last = capsys.readouterr().out.splitlines()

    assert len(lines) == 9
    assert lines[0].startswith("images/black.png")
    assert lines[0].endswith("unlike training")
    assert {line.split()[1] for line in lines} <= {"real", "fake"}
    fakes = sum(line.split()[1] == "fake" for line in lines)
    assert last == f"{fakes} fake, {9 - fakes} real at P(fake) >= 0.600"


def test_heatmaps_are_pictures_of_the_images(trained: Path, images: Path) -> None:
    judged(trained, "images", "--heatmap", "heat", "--heatmap-cells", "4")
    pictures = sorted(Path("heat").iterdir())

    assert len(pictures) == 8
    assert pictures[0].name.startswith("00000_")
    with Image.open(pictures[0]) as picture:
        first = min(images.rglob("*.jpg"))
        assert picture.size == decode(first.read_bytes()).shape[1::-1]
        assert np.ptp(np.asarray(picture), axis=2).max() > 0  # not grey alone


def test_paths_come_from_files_folders_and_standard_input(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/readme.md", "a.unknown"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(tmp_path / "a.unknown"), str(tmp_path / "b"), "-"]
    found = list(find_images(names, ["x y.jpg\n", "\n", "z.jpg"]))

    assert [path.name for path in found] == ["a.unknown", "1.png", "2.JPG", "x y.jpg", "z.jpg"]


def test_without_images_or_without_a_model_the_message_says_what_to_do(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no images in"):
        stage.main([str(tmp_path)])
    with pytest.raises(InputError, match=r"detector\.safetensors is missing: .*`dvc pull`.*`make"):
        load_judge(tmp_path)
    shutil.copytree(trained / "models", tmp_path / "models")
    (tmp_path / "models/calibration.json").unlink()
    with pytest.raises(InputError, match=r"calibration\.json is missing"):
        load_judge(tmp_path / "models")


@pytest.mark.slow
def test_the_command_line_reads_standard_input_and_exits_as_it_says(
    trained: Path, images: Path
) -> None:
    names = [*(str(path) for path in images.rglob("*.jpg")), "absent.jpg"]
    command = [sys.executable, "-m", "src.predict", "-", "--models", str(trained / "models")]
    done = subprocess.run(
        command,
        input="\n".join(names),
        cwd=ROOT,
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == SOME_UNREADABLE, done.stderr
    assert "1 not judged" in done.stdout
    assert "absent.jpg: not judged" in done.stderr
    assert "Traceback" not in done.stderr
