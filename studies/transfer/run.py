"""The trained detector on image sets that it was not trained on, beside its own test set.

Nothing is trained and no threshold is moved: the figures are what a user gets. Near-duplicates of
training and validation images are left out, and counted.

Exit codes: 0 judged, whatever came out; 1 could not be judged (the message says why); 2 wrong
command line.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from judge.command_line import MODELS, up_to
from judge.judging import Judge
from src.core.cli import InputError, run
from src.core.params import load_params
from src.core.tables import FAKE, REAL, read_table
from src.dataset.columns import METADATA, SPLIT_TABLE
from src.download import DownloadParams, quiet_libraries
from src.evaluation.results import EvaluateParams
from src.evaluation.slices import MEASURES, slice_table, with_parts
from src.inference.predictions import PREDICTIONS
from src.metadata import MetadataParams
from src.predict import PredictParams
from studies.shared.results import write_results
from studies.transfer.figures import draw, figures, with_verdicts
from studies.transfer.judged import HASHES, TEST, judge_set, open_sets, without_trained
from studies.transfer.page import document, page

RESULTS = Path("studies/transfer/results")


class Own(NamedTuple):
    """What the pipeline has left of the images that the detector was made and tested with."""

    predictions: pd.DataFrame  # of validation and test, and what `with_verdicts` adds
    metadata: pd.DataFrame  # HASHES and MEASURES of all
    trained: pd.DataFrame  # HASHES of train and validation


def read_own(data: Path, judge: Judge) -> Own:
    """Return what the folder `data` holds.

    Raises:
        InputError: a file of the pipeline is not there.
    """
    for name in ("predictions.csv", "metadata.csv", "splits.csv"):
        if not (data / name).is_file():
            raise InputError(f"{data / name} is missing: run `dvc pull`, or `make repro`")
    metadata = read_table(data / "metadata.csv", METADATA, [*HASHES, *MEASURES])
    splits = read_table(data / "splits.csv", SPLIT_TABLE, ["image_id", "split"])
    seen = splits.loc[splits["split"].isin(["train", "val"]), "image_id"]
    predictions = read_table(data / "predictions.csv", PREDICTIONS)
    return Own(
        with_verdicts(predictions, judge.calibration),
        metadata,
        metadata.loc[metadata["image_id"].isin(seen), HASHES],
    )


def read_drawing(images: int | None) -> tuple[DownloadParams, MetadataParams]:
    """Return how a set is drawn: all of it, `images` of each method and class (None: as usual)."""
    download = load_params(DownloadParams, "download")
    drawn = images or download.images_per_method
    everything = replace(
        download,
        methods=None,
        categories=None,
        allow_licences=None,
        images_per_method=drawn,
        balance_classes=False,
    )
    return everything, load_params(MetadataParams, "metadata")


def slices_of(
    judged: pd.DataFrame, own: Own, threshold: float, params: EvaluateParams
) -> pd.DataFrame:
    """Return `slice_table` of `judged`, in the parts that the stage `evaluate` slices test by."""
    validation = own.predictions[own.predictions["split"] == "val"]
    shared = validation.columns.intersection(judged.columns)
    both = pd.concat([validation[shared], judged[shared]], ignore_index=True)
    measures = ["image_id", *MEASURES]
    known = pd.concat([own.metadata[measures], judged[measures]])
    parts = with_parts(both, known)
    return slice_table(parts[parts["split"] != "val"], threshold, params)


def tables_of(
    judged: Mapping[str, pd.DataFrame], own: Own, threshold: float, params: EvaluateParams
) -> dict[str, pd.DataFrame]:
    """Return figures.csv and slices.csv of judged sets by name; the figures of test come first."""
    sets = {TEST: own.predictions[own.predictions["split"] == TEST], **judged}
    found = {name: figures(table, threshold, params) for name, table in sets.items()}
    return {
        "figures": pd.concat(
            found[name].assign(set=name, images=len(table), groups=table["group"].nunique())
            for name, table in sets.items()
        ),
        "slices": pd.concat(
            slices_of(table, own, threshold, params).assign(set=name)
            for name, table in judged.items()
        ),
    }


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return which sets to judge, and by what."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("origins", nargs="*", help="folders, archives, addresses: docs/origins.md")
    layout = "how they are laid out, files of src/sources: one for all, or one each (folder)"
    add("--source", nargs="+", default=["folder"], metavar="NAME", help=layout)
    add("--images", type=up_to(10**8), help="of each method and class; download.images_per_method")
    add("--models", type=Path, default=MODELS, help="the trained detector (%(default)s)")
    add("--data", type=Path, default=Path("data"), help="what it was made with (%(default)s)")
    add("--results", type=Path, default=RESULTS, help="where the page goes (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Judge every set, write the page."""
    args = parse_args(argv)
    quiet_libraries()
    download, metadata = read_drawing(args.images)
    evaluate = load_params(EvaluateParams, "evaluate")
    batch_size = load_params(PredictParams, "predict").batch_size
    class_names = {REAL: download.real_names, FAKE: download.fake_names}
    sets = open_sets(args.source, args.origins or [""], class_names)
    judge = Judge.load(args.models)
    own = read_own(args.data, judge)
    judged, left_out = {}, {}
    for name, sources in sets.items():
        found = judge_set(name, sources, judge, download, metadata, batch_size)
        judged[name], left_out[name] = without_trained(
            found, own.trained, metadata.max_hash_distance
        )
    tables = tables_of(judged, own, judge.calibration.threshold, evaluate)
    text = page(judge, tables["figures"], tables["slices"], left_out)
    pictures = {"figures": draw(tables["figures"])}
    write_results(args.results, text, tables, pictures, document(tables["figures"]))


if __name__ == "__main__":
    run(main)
