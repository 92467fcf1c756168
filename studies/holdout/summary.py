"""Runs without a generator, and the run with all -> how much worse the unseen one is detected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from src.core.cli import InputError, parse_paths, run
from src.core.params import STRICT, load_params
from src.core.tables import FAKE, HOLDOUT, REAL, read_table
from src.evaluation.calibration import load_calibration
from src.evaluation.intervals import bootstrap_intervals, rate_intervals
from src.evaluation.results import EvaluateParams
from src.inference.predictions import PREDICTIONS
from src.reporting.markdown import markdown_table, with_interval
from src.reporting.titles import TITLES
from studies.holdout.figure import draw
from studies.shared.paired import Difference, Scored, differences
from studies.shared.results import write_results

ARGUMENTS = "judged predictions_csv calibration_json results"
PARAMS = Path(__file__).with_name("params.yaml")
METRICS = ("auroc", "recall")


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name stands there twice")
    return names


@dataclass(frozen=True, config=STRICT)
class HoldoutParams:
    """Section `holdout` of studies/holdout/params.yaml."""

    leave_out: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_different)]


class Judged(NamedTuple):
    """Predictions of a detector and the threshold that was frozen for it."""

    predictions: pd.DataFrame  # with their scores, as calibrated
    threshold: float


def rows_about(judged: Judged, name: str, split: str) -> pd.DataFrame:
    """Return the fakes in `split` of generator or family `name`, and all reals of test.

    Raises:
        InputError: there are no such fakes.
    """
    table = judged.predictions
    named = (table["method"] == name) | (table["family"] == name)
    fakes = table[named & (table["label"] == FAKE) & (table["split"] == split)]
    if fakes.empty:
        raise InputError(f"the predictions hold no image of {name!r} in split {split!r}")
    return pd.concat([table[(table["label"] == REAL) & (table["split"] == "test")], fakes])


def compare(unseen: Judged, trained: Judged, name: str, params: EvaluateParams) -> dict[str, Any]:
    """Return a row of the table: `name` when it was left out, when it was not, and the change.

    The first two are over all images that there are, which differ: what is left out is not
    needed for training, and all of it is judged. The change is over the images that both have.
    """
    left_out, known = rows_about(unseen, name, HOLDOUT), rows_about(trained, name, "test")
    fakes = left_out[left_out["label"] == FAKE]
    groups = fakes["group"].nunique()
    row: dict[str, Any] = {
        "left_out": name,
        "generators": fakes["method"].nunique(),
        "images": len(fakes),
        "groups": groups,
        "few": groups < params.min_groups,
        **_metrics(left_out, unseen.threshold, params),
        "trained_images": int((known["label"] == FAKE).sum()),
    }
    row |= {f"trained_{key}": v for key, v in _metrics(known, trained.threshold, params).items()}
    changes, shared = _changes(left_out, known, (unseen.threshold, trained.threshold), params)
    row["shared_images"] = shared
    for metric in METRICS:
        change = changes[metric]
        row |= {
            f"{metric}_change": change.change,
            f"{metric}_change_low": change.low,
            f"{metric}_change_high": change.high,
            f"{metric}_change_p": change.p_value,
        }
    return row


def _metrics(rows: pd.DataFrame, threshold: float, params: EvaluateParams) -> dict[str, float]:
    scored = _scored(rows, threshold)
    groups, label = rows["group"].to_numpy(), rows["label"].to_numpy()
    metrics = scored.metrics()
    area = bootstrap_intervals(
        lambda weights: {"auroc": scored.metrics(weights)["auroc"]},
        groups,
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )["auroc"]
    rates = rate_intervals(scored.correct, label, groups, params.confidence)
    return {
        "auroc": metrics["auroc"],
        "auroc_low": float(area.low),
        "auroc_high": float(area.high),
        "recall": metrics["recall"],
        "recall_low": float(rates.low[FAKE]),
        "recall_high": float(rates.high[FAKE]),
        "specificity": metrics["specificity"],
    }


def _scored(rows: pd.DataFrame, threshold: float) -> Scored:
    return Scored(rows["label"].to_numpy(), rows["score"].to_numpy(), threshold)


def _changes(
    left_out: pd.DataFrame,
    known: pd.DataFrame,
    thresholds: tuple[float, float],
    params: EvaluateParams,
) -> tuple[dict[str, Difference], int]:
    """Return left out minus trained on, by metric, over shared images; and their fakes' number."""
    shared = np.intersect1d(left_out["image_id"], known["image_id"])
    one, other = (rows.set_index("image_id").loc[shared] for rows in (known, left_out))
    changes = differences(
        _scored(one, thresholds[1]),
        _scored(other, thresholds[0]),
        one["group"].to_numpy(),
        params.bootstrap_rounds,
        params.confidence,
        params.seed,
    )
    return changes, int((one["label"] == FAKE).sum())


def bars_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return two rows per name for `dvc plots`: left out, and trained on."""
    parts = []
    for prefix, suffix in (("", "left out"), ("trained_", "trained on")):
        columns = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
        part = table[[prefix + column for column in columns]].set_axis(columns, axis=1)
        part.insert(0, "name", table["left_out"] + ", " + suffix)
        parts.append(part.assign(few=table["few"]))
    return pd.concat(parts).sort_index(kind="stable", ignore_index=True)


def page(table: pd.DataFrame) -> str:
    """Return what `make holdout` ends with, as Markdown."""
    rows = [
        [
            f"{row['left_out']}{' (few)' if row['few'] else ''}",
            f"{row['images']}",
            *(
                cell
                for name in METRICS
                for cell in (
                    _cell(row, name),
                    _cell(row, f"trained_{name}"),
                    f"{row[name + '_change']:+.3f} ({row[name + '_change_low']:+.3f} to "
                    f"{row[name + '_change_high']:+.3f})",
                )
            ),
            f"{row['specificity']:.3f}",
            f"{row['trained_specificity']:.3f}",
        ]
        for row in table.to_dict("records")
    ]
    header = ["left out", "images"]
    for name in METRICS:
        header += [f"{TITLES[name]}, unseen", "trained on", "change"]
    header += ["specificity, unseen", "trained on"]
    return "\n".join(
        [
            "# Generators that training never saw",
            "",
            markdown_table(header, rows),
            "",
            "Against the photographs of the test set; recall and specificity at each run's frozen "
            "threshold. Where the specificity is low, a high recall says only that much is called "
            "fake. "
            "Trained on: the same generator in the main run. Change: on the images that both "
            "runs judge, drawn together. Few: too few independent groups to rank by.",
            "",
        ]
    )


def _cell(row: dict[Any, Any], name: str) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def read_judged(predictions_csv: Path, calibration_json: Path) -> Judged:
    """Return what a run wrote.

    Raises:
        InputError: it has not been run.
    """
    if not predictions_csv.is_file():
        raise InputError(f"{predictions_csv} is missing; run make holdout")
    table = read_table(predictions_csv, PREDICTIONS)
    calibration = load_calibration(calibration_json)
    scores = calibration.probability(table["logit"].to_numpy())
    return Judged(table.assign(score=scores), calibration.threshold)


def document(table: pd.DataFrame) -> dict[str, Any]:
    """Return what `dvc metrics` shows, by name of what was left out."""
    names = [*METRICS, *(f"trained_{name}" for name in METRICS)]
    names += [f"{name}_change" for name in METRICS]
    return {
        row["left_out"]: {name: row[name] for name in names} for row in table.to_dict("records")
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the runs, compare each with the main one, write."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    names = load_params(HoldoutParams, "holdout", PARAMS).leave_out
    params = load_params(EvaluateParams, "evaluate")
    trained = read_judged(args.predictions_csv, args.calibration_json)
    rows = []
    for name in names:
        folder = args.judged / name
        unseen = read_judged(folder / "predictions.csv", folder / "calibration.json")
        rows.append(compare(unseen, trained, name, params))
    table = pd.DataFrame(rows)
    tables = {"holdout": table, "bars": bars_table(table)}
    metrics = {"holdout": document(table)}
    write_results(args.results, page(table), tables, {"holdout": draw(table)}, metrics)


if __name__ == "__main__":
    run(main)
