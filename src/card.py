"""Stage `card`: metrics, and where the data came from -> the model card, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from src.core.cli import InputError, parse_paths, run
from src.core.files import read_json, replacing
from src.dataset.manifest import Manifest, read_manifest
from src.reporting.markdown import code, interval, markdown_table, with_interval
from src.reporting.titles import HEADLINES, TITLES

ARGUMENTS = "calibrate evaluate shortcuts split train config exported raw card"
METRICS = (*HEADLINES, "brier_error", "calibration_error")
EXACT = {
    True: "Training gives these weights to the bit on any x86-64 processor with AVX2.",
    False: "Training gives these weights to the bit on the same kind of machine alone.",
}
WEAK = 0.5  # a method of which fewer are called right is named among the limits

CARD = """\
> {trained_on}

# Model card: photograph or generated?

Written by the stage `card` from the metrics of the run that made the weights; do not edit it.

## What it is

`{name}`, {parameters:,} parameters, trained on {train_images:,} images; the weights are those of
epoch {kept_epoch}. It looks at squares of {size} x {size} pixels ({resize}) and gives the log odds
that an image was generated. A temperature of {temperature:.3f} ({temperature_low:.3f} to
{temperature_high:.3f}), fitted on validation, makes probabilities of them. The figures
below call an image fake from {threshold:.3f} on, as validation decided. {exact}

`python -m judge` says "fake" from {unsure_high:.3f} on, "real" below {unsure_low:.3f} and
"unsure" between. These ends rest on {real_groups} independent groups of photographs and
{fake_groups} of fakes in validation. With them {judged:.1%} of the test images have a verdict, and
of these {judged_right:.1%} are called right.

## What it is for

To sort images of the kinds listed below into photographs and generated ones, to study detectors,
and as the baseline that a better one has to beat. `python -m judge IMAGE` judges images and warns
of those that are unlike the training images in size or fine detail (distance above
{ood_distance:.3f}).

Not for: proof that an image is or is not genuine; a decision about a person; generators, cameras,
sizes and compressions that it has not seen, unless you have measured it on them
(`make transfer DATA=folder`). It was measured for these sizes, of the shorter side, and no other:

{sizes}

## How good it is

{test_images:,} test images that share no group (photograph, near-duplicate) with training, at the
frozen threshold. The intervals (bootstrap over groups) have the confidence `evaluate.confidence`.

{metrics}

Before calibration the Brier score was {brier_before:.3f}, the calibration error {error_before:.3f}.

Trivial probes (file statistics, mean colour, thumbnail, spectrum) reach these AUROCs (0.5 is
chance); a detector has to beat them:

{probes}

## By method

Called right: recall of fakes, specificity of photographs.

{methods}

## Limits

{limits}

## How to get it

`dvc pull train predict calibrate` in a clone brings it here. A release is a Git tag
`detector@v1.0.0`: docs/model.md says how to make one and how to fetch it.
"""


class Documents(NamedTuple):
    """What a run wrote, in the order of the command line."""

    calibrate: dict[str, Any]
    evaluate: dict[str, Any]
    shortcuts: dict[str, Any]
    split: dict[str, Any]
    train: dict[str, Any]
    config: dict[str, Any]
    exported: dict[str, Any]


def model_card(found: Documents, manifest: Manifest) -> str:
    """Return the card; the same documents give the same text."""
    test, train = found.evaluate["test"], found.train["train"]
    view = found.config["view"]
    return CARD.format(
        trained_on=found.exported["trained_on"],
        name=found.config["name"],
        parameters=train["parameters"],
        train_images=train["train_images"],
        kept_epoch=train["kept_epoch"],
        exact=EXACT[train["exact"]],
        size=view["size"],
        resize="of the image made smaller" if view["resize"] else "as they are",
        judged=found.evaluate["verdicts"]["judged"],
        judged_right=found.evaluate["verdicts"]["judged_right"],
        test_images=sum(found.evaluate["confusion"].values()),
        metrics=markdown_table(
            ("metric", "value", "interval"),
            [(TITLES[name], f"{test[name]:.3f}", interval(*_ends(test, name))) for name in METRICS],
        ),
        brier_before=test["brier_error_before"],
        error_before=test["calibration_error_before"],
        probes=markdown_table(
            ("probe", "AUROC", "interval"),
            [
                (
                    name.replace("_", " "),
                    f"{probe['value']:.3f}",
                    interval(probe["low"], probe["high"]),
                )
                for name, probe in sorted(found.shortcuts["auroc"].items())
            ],
        ),
        sizes=_sizes(found),
        methods=_methods(found, manifest),
        limits="\n".join(f"- {limit}" for limit in _limits(found)),
        **found.calibrate["calibrate"],
    )


def _ends(metrics: Mapping[str, float], name: str) -> tuple[float, float]:
    return metrics[f"{name}_low"], metrics[f"{name}_high"]


def _sizes(found: Documents) -> str:
    rows = [
        (row["size"], row["label"], str(row["images"]), f"{row['correct']:.3f}")
        for row in found.evaluate["sizes"]
    ]
    return markdown_table(("size", "class", "test", "called right"), rows)


def _methods(found: Documents, manifest: Manifest) -> str:
    rows = []
    for label, rates in (("fake", "recall"), ("real", "specificity")):
        for method, rate in sorted(found.evaluate[rates].items()):
            counts = [
                found.split["counts"][split][label]["by_method"].get(method, 0)
                for split in ("train", "test")
            ]
            licence = manifest.methods[method].licence if method in manifest.methods else "unknown"
            rows.append((method, label, *map(str, counts), f"{rate:.3f}", licence))
    return markdown_table(
        ("method", "class", "train", "test", "called right", "licence of the images"), rows
    )


def _limits(found: Documents) -> Iterable[str]:
    evaluate = found.evaluate
    for method, rate in sorted(evaluate["recall"].items(), key=lambda item: item[1]):
        if rate < WEAK:
            share = f"{rate:.1%} of its test images are called fake"
            yield f"It misses most of {code(method)}: {share}."
    for method, rate in sorted(evaluate["specificity"].items(), key=lambda item: item[1]):
        if rate < WEAK:
            yield f"It calls most of {code(method)} fake: {rate:.1%} of these photographs pass."
    slices = evaluate["slices"]
    yield (
        f"{evaluate['ood_share']:.1%} of the test images lie unlike the training images, "
        "further than nearly all of validation."
    )
    yield (
        f"Slices (by method, light, sharpness, JPEG quality, ...) that are called right less often "
        f"than the rest of their class, surely (Holm): {slices['worse_than_rest']} of "
        f"{slices['tested']}; see `plots/evaluate/slices.png`."
    )
    if "holdout" in evaluate:
        holdout = evaluate["holdout"]
        mcc = with_interval(holdout["mcc"], *_ends(holdout, "mcc"))
        yield f"On methods that it was never trained on, its MCC is {mcc}."
    else:
        yield (
            "All its test methods were trained on: how it does on a new generator is not in these "
            "metrics (`split.holdout_methods` measures it)."
        )
    yield "The images keep their licences, some of which allow research only."


def main(argv: Sequence[str] | None = None) -> None:
    """Read, write."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    documents = Documents(*(read_json(getattr(args, name)) for name in Documents._fields))
    try:
        text = model_card(documents, read_manifest(args.raw))
    except KeyError as error:
        raise InputError(f"no {error} in the metrics: run `dvc repro`, then this again") from error
    with replacing(args.card) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main)
