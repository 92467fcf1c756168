"""Two revisions -> whether their detectors differ on the same test images, by more than chance.

A revision is what Git or DVC has a name for (a branch, a tag, a commit, an experiment), or
`workspace`: the files as they lie here. Its predictions come from the cache or from the remote.

Exit codes: 0 compared, whatever came out; 1 could not be compared (an unknown revision, no
predictions in it, test sets that differ); 2 wrong command line.
"""

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from src.core.cli import InputError, run
from src.core.files import write_json
from src.core.params import load_params
from src.core.tables import parse_table
from src.evaluation.calibration import parse_calibration
from src.evaluation.results import EvaluateParams
from src.inference.predictions import PREDICTIONS
from src.reporting.markdown import markdown_table
from src.reporting.titles import TITLES
from studies.shared.paired import Difference, McNemar, Scored, differences, mcnemar

logger = logging.getLogger("compare")

WORKSPACE = "workspace"
PREDICTIONS_CSV = "data/predictions.csv"
CALIBRATION_JSON = "models/calibration.json"
_COLUMNS = ("image_id", "split", "label", "group", "logit")
_EXAMPLES = 3  # images named where test sets differ


class Version(NamedTuple):
    """The detector of a revision, as far as its test images tell."""

    name: str
    test: pd.DataFrame  # image_id, label, group and score, sorted by image_id
    threshold: float  # frozen on its own validation images


class Comparison(NamedTuple):
    """What the test images say of two detectors."""

    first: str
    second: str
    images: int
    groups: int
    differences: dict[str, Difference]
    verdicts: McNemar


def read_version(rev: str) -> Version:
    """Return what revision `rev` of the project in this directory predicts.

    Raises:
        InputError: it is unknown, or holds no predictions that are available.
    """
    content = read_file(PREDICTIONS_CSV, rev)
    name = f"{PREDICTIONS_CSV} of {rev}"
    table = parse_table(io.BytesIO(content), name, PREDICTIONS, _COLUMNS)
    test = table[table["split"] == "test"].sort_values("image_id", ignore_index=True)
    name = f"{CALIBRATION_JSON} of {rev}"
    calibration = parse_calibration(read_file(CALIBRATION_JSON, rev), name)
    scores = calibration.probability(test["logit"].to_numpy())
    return Version(rev, test.assign(score=scores), calibration.threshold)


def read_file(path: str, rev: str) -> bytes:
    """Return the bytes of `path` in revision `rev`.

    Raises:
        InputError: there is no such revision, or it has no such file here or on the remote.
    """
    if rev == WORKSPACE:
        if not Path(path).is_file():
            raise InputError(f"{path} is not here; run dvc repro or dvc pull")
        return Path(path).read_bytes()
    try:
        content: bytes = dvc.api.read(path, rev=rev, mode="rb")
    except SCMError as error:
        raise InputError(f"{rev!r} is no branch, tag, commit or experiment: {error}") from error
    except (DvcException, OSError) as error:
        raise InputError(
            f"{path} of {rev} is neither in the cache nor on the remote ({error}): run dvc fetch "
            f"--all-commits, or check {rev} out and run dvc repro"
        ) from error
    return content


def check_same_test(first: Version, second: Version) -> None:
    """Check that both were judged on the same images.

    Raises:
        InputError: they were not; the message says how many and which differ.
    """
    one, other = (set(version.test["image_id"]) for version in (first, second))
    faults = [
        f"{len(alone)} only in {version.name} ({_examples(alone)})"
        for version, alone in ((first, one - other), (second, other - one))
        if alone
    ]
    if not faults:
        changed = first.test["label"].to_numpy() != second.test["label"].to_numpy()
        if changed.any():
            named = set(first.test.loc[changed, "image_id"])
            faults = [f"{len(named)} have another label ({_examples(named)})"]
    if faults:
        raise InputError(
            f"the test sets differ: {first.name} has {len(one)} images, {second.name} "
            f"{len(other)}, {len(one & other)} of them in both; {'; '.join(faults)}. Figures on "
            "different images say nothing about two detectors: run both with the same download, "
            "metadata and split"
        )
    if not one:
        raise InputError(f"{first.name} and {second.name} have no test image")


def _examples(image_ids: set[str]) -> str:
    named = sorted(image_ids)[:_EXAMPLES]
    return ", ".join(named) + (", ..." if len(image_ids) > _EXAMPLES else "")


def compare(first: Version, second: Version, params: EvaluateParams) -> Comparison:
    """Return how the detector of `second` differs from that of `first`.

    Raises:
        InputError: the test sets differ.
    """
    check_same_test(first, second)
    groups = common_groups(first.test["group"], second.test["group"])
    scored = [
        Scored(
            version.test["label"].to_numpy(), version.test["score"].to_numpy(), version.threshold
        )
        for version in (first, second)
    ]
    found = differences(
        scored[0], scored[1], groups, params.bootstrap_rounds, params.confidence, params.seed
    )
    verdicts = mcnemar(scored[0].correct, scored[1].correct)
    return Comparison(first.name, second.name, len(groups), len(np.unique(groups)), found, verdicts)


def common_groups(first: pd.Series, second: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """Return the group of each image: those of `first`, if both revisions agree on them.

    Where near-duplicates were searched for otherwise, the larger groups are the careful choice.
    """
    if (first.to_numpy() == second.to_numpy()).all():
        return np.asarray(first, dtype=str)
    logger.warning("the revisions group the images otherwise; the one with fewer groups counts")
    return np.asarray(first if first.nunique() <= second.nunique() else second, dtype=str)


def page(comparison: Comparison, confidence: float) -> str:
    """Return the comparison as Markdown: a table, and what it means in plain words."""
    first, second = comparison.first, comparison.second
    rows = [
        (
            TITLES[name],
            f"{change.first:.3f}",
            f"{change.second:.3f}",
            f"{change.change:+.3f}",
            f"{change.low:+.3f} to {change.high:+.3f}",
            _p(change.p_value),
        )
        for name, change in comparison.differences.items()
    ]
    verdicts = comparison.verdicts
    lines = [
        f"{second} against {first}, on the same {comparison.images} test images "
        f"({comparison.groups} groups):",
        "",
        markdown_table(["", first, second, "change", f"{confidence:.0%} interval", "p"], rows),
        "",
        f"Verdicts: {verdicts.only_first} images are right in {first} alone, "
        f"{verdicts.only_second} in {second} alone; McNemar's exact test, which takes images for "
        f"independent: p {_p(verdicts.p_value, '= ')}.",
        "",
        conclusion(comparison, confidence),
        "",
    ]
    return "\n".join(lines)


def conclusion(comparison: Comparison, confidence: float) -> str:
    """Return what the MCC, the metric that decides, says of the two."""
    first, second = comparison.first, comparison.second
    change = comparison.differences["mcc"]
    if comparison.verdicts[:2] == (0, 0):
        return "Both give every test image the same verdict."
    if change.p_value < 1 - confidence:
        better = second if change.change > 0 else first
        return (
            f"More than chance: {better} has the higher MCC. Were the two alike, a gap like this "
            f"would come about with p {_p(change.p_value, '= ')}."
        )
    if change.low > 0 or change.high < 0:  # the interval is too narrow: see intervals.interval
        return (
            f"No difference is shown: {comparison.groups} groups, or evaluate.bootstrap_rounds, "
            "are too few for an interval, and the p-value does not rule chance out."
        )
    most = max(abs(change.low), abs(change.high))
    return (
        f"No difference is shown: these images fit an MCC of {second} that is anything from "
        f"{-change.low:.3f} lower to {change.high:.3f} higher. That is not to say that the two are "
        f"equal: to tell gaps smaller than {most:.3f} takes more images, of more groups "
        f"(at {confidence:.0%} confidence)."
    )


def _p(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{value:.3f}"


def document(comparison: Comparison) -> dict[str, object]:
    """Return the comparison as a JSON object."""
    found = {name: change._asdict() for name, change in comparison.differences.items()}
    return comparison._asdict() | {
        "differences": found,
        "verdicts": comparison.verdicts._asdict(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, and say what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="a branch, tag, commit, experiment, or 'workspace'")
    parser.add_argument("second", nargs="?", default=WORKSPACE, help="likewise")
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    args = parser.parse_args(argv)
    params = load_params(EvaluateParams, "evaluate")
    comparison = compare(read_version(args.first), read_version(args.second), params)
    sys.stdout.write(page(comparison, params.confidence))
    if args.json:
        write_json(document(comparison), args.json)


if __name__ == "__main__":
    run(main)
