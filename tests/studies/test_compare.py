"""`make compare`: is one revision's detector better than another's, on the same test images?"""

import json
from dataclasses import replace

import pandas as pd
import pytest

from src.core.cli import InputError
from src.evaluation import intervals
from studies import compare as tool
from studies.compare import Version, check_same_test, common_groups, compare, conclusion, page
from tests.conftest import ROOT, Project
from tests.helpers.make_predictions import EVALUATE, make_predictions, scored


def version(name: str, strength: float = 1.0, seed: int = 0, images: int = 40) -> Version:
    table = scored(make_predictions(images, seed, strength))
    return Version(name, table[table["split"] == "test"].reset_index(drop=True), 0.5)


def test_a_better_detector_is_called_better() -> None:
    comparison = compare(version("weak", 0.1), version("strong", 2.0, seed=1), EVALUATE)
    change = comparison.differences["mcc"]
    assert change.low > 0
    assert change.p_value < 0.05
    text = page(comparison, EVALUATE.confidence)
    assert "More than chance: strong has the higher MCC" in text
    assert "| MCC " in text
    assert "p < 0.001" in text


def test_a_worse_detector_is_called_worse() -> None:
    comparison = compare(version("strong", 2.0, seed=1), version("weak", 0.1), EVALUATE)
    assert "More than chance: strong has the higher MCC" in conclusion(comparison, 0.95)


def test_like_detectors_are_not_called_equal() -> None:
    comparison = compare(version("one", seed=5), version("other", seed=6), EVALUATE)
    assert comparison.differences["mcc"].p_value > 0.05
    text = conclusion(comparison, 0.95)
    assert text.startswith("No difference is shown")
    assert "not to say that the two are equal" in text


def test_an_interval_of_too_few_groups_decides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    intervals._warn_of_too_few.cache_clear()  # another test may have met it
    pair = [version("weak", 0.1), version("strong", 2.0, seed=1)]
    halves = [str(row % 2) for row in range(len(pair[0].test))]
    few = [v._replace(test=v.test.assign(group=halves)) for v in pair]
    comparison = compare(few[0], few[1], EVALUATE)
    change = comparison.differences["mcc"]
    assert change.low > 0  # that of the draws
    assert change.p_value > 0.05
    assert "2 groups, or evaluate.bootstrap_rounds, are too few" in conclusion(comparison, 0.95)
    assert "too few for intervals of 95 %" in caplog.text


def test_the_same_detector_differs_nowhere() -> None:
    comparison = compare(version("one"), version("again"), EVALUATE)
    assert conclusion(comparison, 0.95) == "Both give every test image the same verdict."
    assert comparison.verdicts.p_value == 1


def test_figures_are_written_as_json_too() -> None:
    comparison = compare(version("a"), version("b", seed=1), EVALUATE)
    written = json.loads(json.dumps(tool.document(comparison)))
    assert written["images"] == 240
    assert written["groups"] == 100  # two of a group; cycle_gan's reals and fakes share theirs
    assert 0 < written["differences"]["mcc"]["p_value"] <= 1
    assert set(written["verdicts"]) == {"only_first", "only_second", "p_value"}


def test_other_test_images_are_refused_with_counts_and_names() -> None:
    first, second = version("main"), version("branch")
    second = second._replace(test=second.test.iloc[5:].reset_index(drop=True))
    with pytest.raises(InputError) as caught:
        check_same_test(first, second)
    message = str(caught.value)
    assert "main has 240 images, branch 235, 235 of them in both" in message
    assert "5 only in main (coco/test00.jpg, coco/test01.jpg, coco/test02.jpg, ...)" in message


def test_another_label_of_an_image_is_refused() -> None:
    first, second = version("main"), version("branch")
    changed = second.test.assign(label=second.test["label"].where(second.test.index != 7, 1))
    with pytest.raises(InputError, match=r"1 have another label \(coco/test07"):
        check_same_test(first, second._replace(test=changed))


def test_no_test_image_at_all_is_refused() -> None:
    empty = version("main").test.iloc[:0]
    with pytest.raises(InputError, match="no test image"):
        check_same_test(Version("a", empty, 0.5), Version("b", empty, 0.5))


def test_of_two_groupings_the_coarser_counts() -> None:
    fine, coarse = pd.Series(["a", "b", "c"]), pd.Series(["x", "x", "y"])
    assert common_groups(fine, fine).tolist() == ["a", "b", "c"]
    assert common_groups(fine, coarse).tolist() == ["x", "x", "y"]
    assert common_groups(coarse, fine).tolist() == ["x", "x", "y"]


def test_more_confidence_gives_wider_intervals() -> None:
    widths = []
    for confidence in (0.8, 0.95, 0.99):
        params = replace(EVALUATE, confidence=confidence)
        change = compare(version("a"), version("b", seed=1), params).differences["ap"]
        widths.append(change.high - change.low)
    assert widths == sorted(widths)


def test_exit_codes_are_documented() -> None:
    assert tool.__doc__
    assert "0 compared" in tool.__doc__
    assert "1 could not be compared" in tool.__doc__
    assert "exit" in (ROOT / "docs/studies.md").read_text(encoding="utf-8").lower()


@pytest.mark.slow
def test_what_cannot_be_compared_is_said_in_one_line(project: Project) -> None:
    asked = ["python", "-m", "studies.compare"]
    unknown = project.run(*asked, "no-such-branch", "main", check=False)
    assert unknown.startswith("error: 'no-such-branch' is no branch, tag, commit or experiment")
    assert "Traceback" not in unknown
    path = project.folder / "data/predictions.csv"
    table = pd.read_csv(path, keep_default_na=False)
    path.unlink()  # it is a link into the cache
    table[table["image_id"] != table["image_id"].iloc[-1]].to_csv(path, index=False)
    other = project.run(*asked, "main", check=False)
    assert other.startswith("error: the test sets differ: main has ")
    path.unlink()
    assert "run dvc repro or dvc pull" in project.run(*asked, "main", check=False)
    for cached in (project.folder / ".dvc/cache/files").rglob("*"):
        if cached.is_file():
            cached.unlink()
    gone = project.run(*asked, "main", check=False)
    assert gone.splitlines()[-1].startswith("error: data/predictions.csv of main is neither in")
