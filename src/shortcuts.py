"""Stage `shortcuts`, the gate: how well do trivial features give the class away?

Four probes, judged by cross-validation on all images of the split: file statistics, the mean
colour, a thumbnail of 8 x 8 pixels, the radial spectrum. If file statistics alone tell the class,
the data are at fault, and the stage fails; the others are the floor that a detector must beat.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from src.core.arrays import FloatArray
from src.core.cli import InputError, parse_paths, run
from src.core.files import replacing, write_json
from src.core.hashing import image_keys, ranks
from src.core.params import STRICT, load_params
from src.core.tables import HOLDOUT, LABELS, read_table
from src.dataset.columns import METADATA, SPLIT_TABLE
from src.dataset.parallel import map_images
from src.evaluation.intervals import Rounds, bootstrap_intervals
from src.evaluation.ranking import Ranking, auroc
from src.images.decode import decode
from src.images.shards import ShardReader
from src.probes.features import FILE_COLUMNS, PixelFeatures, file_features, pixel_features
from src.probes.fit import out_of_fold_scores

ARGUMENTS = "metadata_csv splits_csv raw metrics_json passed"
_CONFIDENCE = 0.95
_LOCATION = ["shard", "offset", "length"]
_STATISTICS = ["image_id", *(column for column in FILE_COLUMNS if column != "length")]
_PASSED = "File statistics do not give the class away; see metrics/shortcuts.json.\n"


@dataclass(frozen=True, config=STRICT)
class ShortcutsParams:
    """Section `shortcuts` of params.yaml."""

    max_images: Annotated[int, Field(ge=2, le=10**7)]
    folds: Annotated[int, Field(ge=2, le=100)]
    max_file_auroc: Annotated[float, Field(ge=0.5, le=1)]
    bootstrap_rounds: Rounds
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(ShortcutsParams, "shortcuts")
    args.passed.unlink(missing_ok=True)
    columns = ["image_id", "split", "label", "group", *_LOCATION]
    splits = read_table(args.splits_csv, SPLIT_TABLE, columns)
    splits = splits[splits["split"] != HOLDOUT]  # all of one class, perhaps
    statistics = read_table(args.metadata_csv, METADATA, _STATISTICS)
    images = sample(splits, statistics, params)
    metrics = probe_metrics(images, probe_features(images, ShardReader(args.raw)), params)
    # Written even if the gate stays shut: these are the numbers to look at then.
    write_json(metrics, args.metrics_json)
    check_gate(metrics, params.max_file_auroc)
    with replacing(args.passed) as temporary:
        temporary.write_text(_PASSED, encoding="utf-8")


def sample(splits: pd.DataFrame, statistics: pd.DataFrame, params: ShortcutsParams) -> pd.DataFrame:
    """Return the images to judge, as many of each class, with their file statistics.

    Raises:
        InputError: an image of the split is not in the metadata, or a class has too few groups to
            cross-validate.
    """
    rank = pd.Series(ranks(image_keys(splits["image_id"]), params.seed), splits.index)
    per_class = min(params.max_images // 2, splits["label"].value_counts().min())
    chosen = rank.groupby(splits["label"]).rank(method="first") <= per_class
    images = splits[chosen].merge(statistics, on="image_id", how="left", indicator=True)
    if (images["_merge"] != "both").any():
        missing = images.loc[images["_merge"] != "both", "image_id"].iloc[0]
        raise InputError(f"{missing} is in the split but not in the metadata; run both again")
    for label, name in LABELS.items():
        groups = images.loc[images["label"] == label, "group"].nunique()
        if groups < params.folds:
            raise InputError(
                f"shortcuts.folds = {params.folds}, but the {name} images form only {groups} "
                "groups; use more images or fewer folds"
            )
    return images


def probe_features(images: pd.DataFrame, reader: ShardReader) -> dict[str, FloatArray]:
    """Return what each probe sees of `images`, arrays of shape (n, columns)."""
    parts = list(map_images(partial(_pixel_features, reader), images[_LOCATION], "shortcuts"))
    files = np.hstack(list(file_features(images).values()))
    return {
        "file_statistics": files,
        **{name: np.concatenate([part[name] for part in parts]) for name in PixelFeatures._fields},
    }


def _pixel_features(reader: ShardReader, rows: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
    features = [
        pixel_features(decode(reader.read(*location))) for location in rows.itertuples(index=False)
    ]
    columns = zip(*features, strict=True)
    return dict(zip(PixelFeatures._fields, map(np.stack, columns), strict=True))


def probe_metrics(
    images: pd.DataFrame, probes: Mapping[str, FloatArray], params: ShortcutsParams
) -> dict[str, Any]:
    """Return the metrics: the AUROC of each probe with its interval, and of each file column."""
    labels, groups = images["label"].to_numpy(), images["group"].to_numpy(dtype=str)
    fit = partial(
        out_of_fold_scores, labels=labels, groups=groups, folds=params.folds, seed=params.seed
    )
    rankings = {name: Ranking(labels, fit(features)) for name, features in probes.items()}
    intervals = bootstrap_intervals(
        lambda weights: {name: auroc(one.curve(weights)) for name, one in rankings.items()},
        groups,
        params.bootstrap_rounds,
        _CONFIDENCE,
        params.seed,
    )
    columns = file_features(images)
    return {
        "images": len(images),
        "groups": len(np.unique(groups)),
        "auroc": {
            name: {
                "value": auroc(ranking.curve()),
                "low": float(intervals[name].low),
                "high": float(intervals[name].high),
            }
            for name, ranking in rankings.items()
        },
        "auroc_of_file_column": {
            name: auroc(Ranking(labels, fit(column)).curve()) for name, column in columns.items()
        },
    }


def check_gate(metrics: Mapping[str, Any], limit: float) -> None:
    """Raise if file statistics tell the class.

    Raises:
        InputError: their AUROC is above `limit`; the message names the columns that leak most.
    """
    found = metrics["auroc"]["file_statistics"]
    ordered = sorted(metrics["auroc_of_file_column"].items(), key=lambda item: -item[1])
    if found["value"] <= limit:
        return
    leaks = [item for item in ordered if item[1] > limit] or ordered[:2]
    named = ", ".join(f"{name} {value:.3f}" for name, value in leaks)
    raise InputError(
        f"file statistics give the class away: AUROC {found['value']:.3f} ({found['low']:.3f} to "
        f"{found['high']:.3f}), above shortcuts.max_file_auroc = {limit}. By column: {named}. "
        "A detector would learn the files instead of the pictures. Re-encode both classes alike "
        "(one format, size and range of quality) or choose other images; to accept it, "
        "raise shortcuts.max_file_auroc"
    )


if __name__ == "__main__":
    run(main)
