import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from judge import Judge, Unreadable, command_line, judging
from judge.command_line import SOME_UNREADABLE
from judge.files import find_images
from judge.output import Journal
from src.core.cli import InputError
from src.core.tables import read_table
from src.explanation.occlusion import paint
from src.images.decode import decode
from src.inference.knn_distance import load_knn_index, save_knn_index
from src.inference.predictions import PREDICTIONS
from tests.helpers import ROOT
from tests.judge.conftest import CALIBRATION, TRAINED_ON


def judged(trained: Path, *arguments: str) -> None:
    command_line.main([*arguments, "--models", str(trained / "models")])


def test_a_folder_is_judged_as_the_stage_judges_it(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged(trained, images.name, "--json", "--batch-size", "3")
    document = json.loads(capsys.readouterr().out)
    assert next(iter(document.items())) == ("trained_on", TRAINED_ON)
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
        assert found["unlike_training"] == (found["distance"] > CALIBRATION.ood_distance)


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
    first, *lines, last = capsys.readouterr().out.splitlines()

    assert first == TRAINED_ON
    assert len(lines) == 9
    assert lines[0].startswith("images/black.png")
    assert lines[0].endswith("unlike training")
    assert {line.split()[1] for line in lines} <= {"real", "fake"}
    fakes = sum(line.split()[1] == "fake" for line in lines)
    assert last == f"{fakes} fake, {9 - fakes} real at P(fake) >= 0.600; 9 unlike training"


def test_heatmaps_are_pictures_of_the_images(trained: Path, images: Path) -> None:
    judged(trained, "images", "--heatmap", "heat", "--heatmap-cells", "4")
    pictures = sorted(Path("heat").iterdir())

    assert len(pictures) == 8
    assert pictures[0].name.startswith("00000_")
    with Image.open(pictures[0]) as picture:
        first = min(images.rglob("*.jpg"))
        assert picture.size == decode(first.read_bytes()).shape[1::-1]
        assert np.ptp(np.asarray(picture), axis=2).max() > 0  # not grey alone


@pytest.mark.parametrize("stem", ["x" * 251, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 83])
def test_the_longest_name_has_a_heatmap(trained: Path, images: Path, stem: str) -> None:
    first = min(images.rglob("*.jpg"))
    first.rename(images / f"{stem}.jpg")
    judged(trained, f"images/{stem}.jpg", "--heatmap", "heat", "--heatmap-cells", "2")
    (picture,) = Path("heat").iterdir()
    assert len(os.fsencode(picture.name)) <= 255
    assert picture.name.startswith(f"00000_{stem[:50]}")
    assert picture.suffix == ".png"


def test_an_image_that_is_gone_before_its_heatmap_is_named_and_the_others_have_theirs(
    trained: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = min(images.rglob("*.jpg"))

    def paint_and_delete(image: object, *others: object) -> object:
        gone.unlink(missing_ok=True)
        return paint(image, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(judging, "paint", paint_and_delete)
    # The first place is another's: what is painted then takes the second one away.
    first = max(images.rglob("*.jpg"))
    with pytest.raises(SystemExit, match=str(SOME_UNREADABLE)):
        judged(trained, str(first), "images", "--heatmap", "heat", "--heatmap-cells", "2")
    assert "not judged" not in capsys.readouterr().out
    assert f"{gone.name}: no heat-map: No such file" in caplog.text
    assert sorted(path.name[:5] for path in Path("heat").iterdir()) == [
        f"{number:05d}" for number in range(9) if number != 1
    ]


def test_a_full_disk_ends_the_heatmaps_in_one_error_after_the_verdicts(
    trained: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: 'heat/00000_.*\.png'"):
        judged(trained, images.name, "--heatmap", "heat", "--heatmap-cells", "2")
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert not list(Path("heat").iterdir())


def test_a_file_in_the_place_of_the_heatmaps_is_named_before_anything_is_judged(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images.parent / "heat").touch()
    with pytest.raises(InputError, match=r"--heatmap heat: .*File exists; name another"):
        judged(trained, "images", "--heatmap", "heat")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("option", "limit"), [("--batch-size", 65536), ("--heatmap-cells", 64)])
@pytest.mark.parametrize("value", ["-1", "0", "1.5", "many", "65537", "4294967296", "9" * 5000])
def test_counts_are_bounded(
    option: str, limit: int, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["images", option, value])
    message = f"argument {option}: '{value}': give a whole number from 1 to {limit}"
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_searched_is_named_in_its_place(
    trained: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (images / "closed").mkdir()
    (images / "closed/1.jpg").touch()
    scandir = os.scandir

    def refuse(path: str) -> object:  # permissions do not bind who runs the tests as root
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    folder = Unreadable("images/closed", "a folder, not searched: Permission denied")
    found = find_images(["images"], []).found
    assert folder in found
    assert len(found) == 9
    assert find_images(["images/closed"], []).found == [folder]

    with pytest.raises(SystemExit, match=str(SOME_UNREADABLE)):
        judged(trained, "images", "--json")
    document = json.loads(capsys.readouterr().out)
    assert len(document["images"]) == 8
    assert document["unreadable"] == [folder._asdict()]
    assert "images/closed: not judged: a folder, not searched: Permission denied" in caplog.text


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), None])
def test_a_path_that_cannot_even_be_looked_at_is_an_unreadable_file(
    trained: Path,
    images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError | None,
) -> None:
    name = "x" * 300 if error is None else "closed/1.jpg"
    is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if error and path.parent.name == "closed":
            raise error
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(SystemExit, match=str(SOME_UNREADABLE)):
        judged(trained, name, str(images), "--json")
    document = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in document["unreadable"]] == [name]
    assert len(document["images"]) == 8


def test_what_makes_pillows_avif_reader_fail_in_its_own_way_is_unreadable(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((70, 50, 3), dtype=np.uint8)).save(encoded, "AVIF")
    whole = encoded.getvalue()
    (images / "whole.avif").write_bytes(whole)
    # An item of an unknown kind is no image: Pillow says so with a RuntimeError.
    (images / "odd.avif").write_bytes(whole.replace(b"av01", b"av99"))
    with pytest.raises(SystemExit, match=str(SOME_UNREADABLE)):
        judged(trained, "images", "--json")
    document = json.loads(capsys.readouterr().out)
    assert "images/whole.avif" in [item["path"] for item in document["images"]]
    assert [item["path"] for item in document["unreadable"]] == ["images/odd.avif"]


def test_without_images_or_without_a_model_the_message_says_what_to_do(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no images in"):
        command_line.main([str(tmp_path)])
    with pytest.raises(InputError, match=r"detector\.safetensors is missing: .*`dvc pull`.*`make"):
        Judge.load(tmp_path)
    shutil.copytree(trained / "models", tmp_path / "models")
    (tmp_path / "models/calibration.json").unlink()
    with pytest.raises(InputError, match=r"calibration\.json is missing"):
        Judge.load(tmp_path / "models")


def test_a_knn_index_of_another_model_or_of_too_few_images_is_named(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "models", tmp_path / "models")
    path = tmp_path / "models/knn_index.safetensors"
    index = load_knn_index(path)
    width = index.features.shape[1]
    faulty = {
        rf"features of shape .* makes {width} of an image.*`dvc pull`": index._replace(
            features=np.ascontiguousarray(index.features[:, 1:])
        ),
        r"wants the \d+ nearest of its 1 images .*`dvc pull`": index._replace(
            features=index.features[:1]
        ),
        "wants the 0 nearest": index._replace(neighbours=0),
    }
    for message, other in faulty.items():
        save_knn_index(other, path)
        with pytest.raises(InputError, match=rf"knn_index\.safetensors .*{message}"):
            Judge.load(tmp_path / "models")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_no_name_on_standard_input_ends_the_run(trained: Path, images: Path, encoding: str) -> None:
    first, second, third = sorted(images.rglob("*.jpg"))[:3]
    latin = first.rename(images / os.fsdecode(b"caf\xe9.jpg"))
    greek = third.rename(images / "\N{GREEK SMALL LETTER PI}.jpg")
    lines = [os.fsencode(latin), os.fsencode(second), b"a.jpg\0b.jpg"]
    command = [sys.executable, "-m", "judge", "-", str(greek)]
    command += ["--models", str(trained / "models")]
    done = subprocess.run(
        [*command, "--heatmap", str(images.parent / "heat"), "--heatmap-cells", "1"],
        input=b"\n".join(lines),
        cwd=ROOT,
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    errors = done.stderr.decode()
    assert done.returncode == SOME_UNREADABLE, errors
    assert "Traceback" not in errors
    assert (
        r"a.jpg\x00b.jpg: not judged: no path of a file (embedded null byte); give one a" in errors
    )
    printed = done.stdout.decode()
    assert rf"{images}/caf\udce9.jpg" in printed
    assert str(second) in printed
    strange = str(greek) if encoding.startswith("utf-8") else rf"{images}/\u03c0.jpg"
    assert strange in printed
    assert len(list((images.parent / "heat").iterdir())) == 3


@pytest.mark.slow
def test_the_command_line_reads_standard_input_and_exits_as_it_says(
    trained: Path, images: Path
) -> None:
    names = [*(str(path) for path in images.rglob("*.jpg")), "absent.jpg"]
    command = [sys.executable, "-m", "judge", "-", "--models", str(trained / "models")]
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


def started(*arguments: str | Path, **options: Any) -> "subprocess.Popen[str]":
    """Return the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "judge", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def many(images: Path, count: int) -> list[Path]:
    """Return `count` images in a new folder."""
    first = min(images.rglob("*.jpg"))
    folder = images.parent / "many"
    folder.mkdir()
    return [Path(shutil.copy(first, folder / f"{number:05d}.jpg")) for number in range(count)]


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_judged_and_a_resumed_run_judges_the_rest(
    trained: Path, images: Path
) -> None:
    paths = many(images, 8000)
    output = images.parent / "verdicts.csv"
    arguments = (paths[0].parent, "--models", trained / "exported", "--batch-size", "1")
    process = started(*arguments, "--output", output, "--quiet")
    partial = images.parent / "verdicts.csv.partial"
    while process.poll() is None and not (partial.exists() and partial.stat().st_size > 4000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGINT, errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) == 2
    assert not output.exists()
    known = partial.read_text().splitlines()
    assert 10 < len(known) < 8000

    with pytest.raises(InputError, match=r"csv\.partial holds the verdicts .* add --resume"):
        command_line.main([*map(str, arguments), "--output", str(output)])
    partial.write_text("\n".join(known) + '\n{"path": "cut sh')
    calls = 0
    judge_seen = Judge._of_seen

    def counted(judge: Judge, names: Sequence[str], seen: Sequence[Any]) -> Any:
        nonlocal calls
        calls += len(names)
        return judge_seen(judge, names, seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "_of_seen", counted)
        resumed = (*map(str, arguments), "--output", str(output), "--resume", "--quiet")
        command_line.main([*resumed, "--batch-size", "500"])
    assert calls == 8000 - (len(known) - 1)
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [row["path"] for row in rows] == list(map(str, paths))
    assert not partial.exists()


@pytest.mark.usefixtures("images")
def test_a_resumed_run_judges_what_changed_again(trained: Path) -> None:
    paths = sorted(Path("images").rglob("*.jpg"))
    judge = Judge.load(trained / "models")
    journal = Journal(Path("x.csv"), judge.identity, resume=False)
    for path in paths:
        journal.see(str(path))
        journal.add(judge(path)._replace(probability=0.123456))
    journal.close()
    touched, longer, gone = paths[:3]
    os.utime(touched, (0, 0))
    with longer.open("ab") as file:
        file.write(b"\0")
    gone.unlink()
    judged(trained, "images", "--output", "x.csv", "--resume", "--quiet")
    with Path("x.csv").open() as file:
        rows = {Path(row["path"]): row["probability"] for row in csv.DictReader(file)}
    assert list(rows) == [path for path in paths if path != gone]
    again = [path for path, probability in rows.items() if probability != "0.123456"]
    assert again == [touched, longer]


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_run_in_silence(trained: Path, images: Path) -> None:
    paths = many(images, 3000)
    process = started(paths[0].parent, "--csv", "--models", trained / "exported")
    assert process.stdout
    assert process.stdout.readline() == "path,probability,verdict,distance,unlike_training\n"
    process.stdout.close()
    assert process.stderr
    with process.stderr:
        assert process.stderr.read() == f"INFO judge.own_images: {TRAINED_ON}\n"
    assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.slow
def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys, judge.command_line; judge.command_line.main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert "unlike training" in done.stdout
    assert not {"numpy", "torch", "onnxruntime", "pandas"} & {
        line.split("|")[-1].strip() for line in done.stderr.splitlines()
    }


@pytest.mark.usefixtures("images")
def test_rows_appear_as_images_are_judged(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []

    class Terminal(io.StringIO):
        def flush(self) -> None:
            printed.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Terminal())
    judged(trained, "images", "--csv", "--batch-size", "2")
    assert [text.count("\n") for text in printed[:8]] == list(range(2, 10))


@pytest.mark.parametrize("option", ["--csv", "--json", "--quiet"])
def test_what_is_left_out_is_said_where_no_summary_is(
    trained: Path, images: Path, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    (images / "notes.txt").touch()
    (images / ".thumbnails").mkdir()
    (images / ".thumbnails/a.png").touch()
    judged(trained, "images", option)
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said[0] == "left out, no images: 1 .txt"
    assert said[1].startswith("left out: ")


@pytest.mark.parametrize("name", ["verdicts.csv", "verdicts.json"])
def test_the_output_is_what_would_have_been_printed(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (images / "notes.txt").touch()
    judged(trained, "images", "--output", name)
    assert capsys.readouterr().out == (
        f"{TRAINED_ON}\n8 fake, 0 real at P(fake) >= 0.600; 8 unlike training\n"
        "left out, no images: 1 .txt\n"
    )
    judged(trained, "images", f"--{name.split('.')[1]}")
    assert Path(name).read_text() == capsys.readouterr().out
    judged(trained, "images", "--output", name, "--quiet")  # an older file is replaced
    assert not capsys.readouterr().out
    assert [path.name for path in Path().glob("*verdicts*")] == [name]


@pytest.mark.usefixtures("images")
def test_an_output_of_unknown_format_or_of_another_detector_is_refused(
    trained: Path,
) -> None:
    with pytest.raises(InputError, match=r"--output x\.txt: the suffix must be one of \.csv, \.j"):
        judged(trained, "images", "--output", "x.txt")
    with pytest.raises(InputError, match=r"--output absent/x\.csv: No such file or directory; na"):
        judged(trained, "images", "--output", "absent/x.csv")
    Path("x.csv.partial").write_text('{"judge": "another"}\n')
    with pytest.raises(InputError, match="begun with another detector or threshold"):
        judged(trained, "images", "--output", "x.csv", "--resume")
    with pytest.raises(SystemExit, match="2"):
        judged(trained, "images", "--resume")


@pytest.mark.usefixtures("images")
def test_threshold_sort_and_quiet(
    trained: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    judged(trained, "images", "--json")
    probabilities = sorted(i["probability"] for i in json.loads(capsys.readouterr().out)["images"])
    judged(trained, "images", "--threshold", "0", "--sort", "probability", "--quiet")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {verdict for _, verdict, *_ in lines} == {"fake"}
    assert caplog.messages == [TRAINED_ON] * 2  # not among the rows of a program
    assert [float(line[2]) for line in lines] == [round(p, 3) for p in probabilities[::-1]]
    with pytest.raises(SystemExit, match="2"):
        judged(trained, "images", "--threshold", "1.5")


def test_a_name_forges_no_line(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = min(images.rglob("*.jpg"))
    forged = images / "x.jpg\nholiday.jpg  real  0.010\x1b[2J\u202e\r.jpg"
    first.rename(forged)
    for option in ("--csv", "--quiet", "--json"):
        judged(trained, "images", option)
        printed = capsys.readouterr().out
        shown = printed.replace("\n", "")
        assert not any(unicodedata.category(char) in {"Cc", "Cf"} for char in shown)
        assert "\nholiday" not in printed
    assert str(forged.relative_to(images.parent)) in [
        image["path"] for image in json.loads(printed)["images"]
    ]
