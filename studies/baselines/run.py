"""Every detector as an experiment on the same data -> one table (`make baselines`)."""

import argparse
import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from src.core.cli import InputError, run
from src.core.files import read_json, replacing, write_json
from src.core.tables import write_csv
from src.reporting.markdown import markdown_table, with_interval

logger = logging.getLogger("baselines")

DETECTORS = Path(__file__).parents[2] / "src/models"
RECIPES = Path("studies/baselines/recipes.yaml")
TABLE = Path("studies/baselines/results")  # .md and .csv
TIMES = Path(".scratch/baselines.json")
METRICS = ("mcc", "auroc")
_PREFIX = "baseline-"
_PARAMETER = re.compile(r"\w+\.\w+")
_FORM = "expected a line for each detector, such as resnet50: {train.epochs: 5}, or resnet50: {}"

Recipe = dict[str, Any]


def read_recipes(path: Path, environment: Mapping[str, str]) -> dict[str, Recipe]:
    """Return the changes to params.yaml of each detector that can run.

    A value such as $CLIP is that of a variable of the `environment`: weights that a detector does
    without only by being left out.

    Raises:
        InputError: the file is no mapping of detectors to changes, or names an unknown detector.
    """
    # Not src.models.names(), which takes as long as torch and timm to import.
    known = sorted(file.stem for file in DETECTORS.glob("[!_]*.py"))
    recipes: dict[str, Recipe] = {}
    for name, changes in _read_mapping(path).items():
        if name not in known:
            raise InputError(f"{path}: {name!r} is not a detector; choose among {known}")
        if changes is not None and not _are_changes(changes):
            raise InputError(f"{path}: {name} has {changes!r}; {_FORM}")
        recipe = {"model.name": name, **(changes or {})}
        missing = [v[1:] for v in recipe.values() if _is_variable(v) and not environment.get(v[1:])]
        if missing:
            logger.warning("%s left out: set %s to its weights (see %s)", name, missing[0], path)
            continue
        recipes[name] = {
            key: _weights(environment[v[1:]]) if _is_variable(v) else v for key, v in recipe.items()
        }
    return recipes


def _is_variable(value: object) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _weights(value: str) -> str:
    # A file of this folder; experiments run in another. Else it is a tag.
    return str(Path(value).resolve()) if Path(value).exists() else value


def _read_mapping(path: Path) -> dict[Any, Any]:
    try:
        document = YAML(typ="safe", pure=True).load(path)
    except YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or not document:
        raise InputError(f"{path} holds {document!r}; {_FORM}")
    return document


def _are_changes(changes: object) -> bool:
    return isinstance(changes, dict) and all(
        isinstance(name, str) and _PARAMETER.fullmatch(name) for name in changes
    )


def changed(params: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the sections `params` with the values of `recipe`, named section.key."""
    sections = {section: dict(values) for section, values in params.items()}
    for name, value in recipe.items():
        section, key = name.split(".")
        sections[section][key] = value
    return sections


def at_budget(recipe: Recipe, params: Mapping[str, Any], epochs: int) -> Recipe:
    """Return `recipe` for so many `epochs`, its warm-up and average as long a part of them."""
    train = changed(params, recipe)["train"]
    share = epochs / train["epochs"]
    return {
        **recipe,
        "train.epochs": epochs,
        "train.patience": epochs,
        "train.warmup_epochs": round(train["warmup_epochs"] * share, 3),
        "train.ema_decay": round(train["ema_decay"] ** (1 / share), 5),
    }


def run_experiment(name: str, recipe: Recipe) -> float | None:
    """Run one detector beside the workspace; return the CPU seconds that it took.

    None if DVC knew the detector already, so that the time says nothing.
    """
    settings = [part for key, value in recipe.items() for part in ("-S", f"{key}={value}")]
    # An interrupted training is taken up: its state must not lie in the folder that DVC deletes.
    environment = {"REAL_OR_GENERATED_SCRATCH": str(Path(".scratch").resolve())}
    before = _cpu_seconds()
    trained = False
    with subprocess.Popen(
        # Up to the metrics: galleries would take as long again.
        ["dvc", "exp", "run", "--temp", "--name", _PREFIX + name, *settings, "evaluate"],
        env={**environment, **os.environ},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            trained |= line.startswith("Running stage 'train'")
    if running.returncode:
        raise InputError(
            f"{name} failed (see above): fix it and run this again; the others are kept"
        )
    return _cpu_seconds() - before if trained else None


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def find_experiment(name: str) -> str | None:
    """Return the commit of the detector's experiment on HEAD, if there is one."""
    head = _git("rev-parse", "HEAD").strip()
    reference = f"refs/exps/{head[:2]}/{head[2:]}/{_PREFIX}{name}"
    return _git("for-each-ref", "--format=%(objectname)", reference).strip() or None


def is_current(commit: str, expected: Mapping[str, Any]) -> bool:
    """Return whether the experiment had the parameters `expected`."""
    text = _git("show", f"{commit}:params.yaml")
    return bool(YAML(typ="safe", pure=True).load(text) == expected)


def read_result(commit: str) -> dict[str, float]:
    """Return one row of the table from an experiment's metrics."""
    documents = (
        YAML(typ="safe").load(_git("show", f"{commit}:metrics/{stage}.json"))
        for stage in ("evaluate", "train")
    )
    evaluate, train = documents
    names = [name + end for name in METRICS for end in ("", "_low", "_high")]
    return {
        **{name: evaluate["test"][name] for name in names},
        "parameters": train["train"]["parameters"],
        "images_seen": train["train"]["images_seen"],
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def read_probes(shortcuts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each trivial probe of metrics/shortcuts.json."""
    for name, probe in shortcuts["auroc"].items():
        yield {
            "detector": f"probe: {name.replace('_', ' ')}",
            "auroc": probe["value"],
            "auroc_low": probe["low"],
            "auroc_high": probe["high"],
        }


def page(table: pd.DataFrame) -> str:
    """Return `table` as Markdown, intervals beside their metrics."""
    header = ("detector", "MCC", "AUROC", "parameters", "images seen", "CPU s")
    rows = [
        (
            str(row["detector"]),
            *(_with_interval(row, name) for name in METRICS),
            *(_count(row[name]) for name in ("parameters", "images_seen", "cpu_seconds")),
        )
        for row in table.to_dict("records")
    ]
    return markdown_table(header, rows) + "\n"


def _with_interval(row: Mapping[Any, Any], name: str) -> str:
    if pd.isna(row[name]):
        return ""
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _count(value: float) -> str:
    return "" if pd.isna(value) else f"{value:,.0f}"


def write_results(results: Mapping[str, Mapping[str, float]], times: Mapping[str, float]) -> None:
    """Write the table as Markdown and CSV, best AUROC first, and print it."""
    rows = [
        {"detector": name, **row, "cpu_seconds": times.get(name)} for name, row in results.items()
    ]
    rows += read_probes(read_json(Path("metrics/shortcuts.json")))
    table = pd.DataFrame(rows).sort_values("auroc", ascending=False, kind="stable")
    write_csv(table, TABLE.with_suffix(".csv"))
    text = page(table)
    with replacing(TABLE.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _images(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of images, 1 or more")
    return int(text)


def main() -> None:
    """Run what has not been run with the present commit and parameters; then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detectors", nargs="*", help="of studies/baselines/recipes.yaml; none: all")
    parser.add_argument(
        "--images-seen",
        type=_images,
        help="as many training images for every detector, in whole epochs; its recipe, shortened "
        "or stretched",
    )
    args = parser.parse_args()
    recipes = read_recipes(RECIPES, os.environ)
    if unknown := set(args.detectors) - set(recipes):
        raise InputError(f"{RECIPES} has no {sorted(unknown)} to run; choose among {list(recipes)}")
    params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    subprocess.run(["dvc", "repro", "shortcuts"], check=True)
    if args.images_seen:
        classes = read_json(Path("metrics/split.json"))["counts"]["train"].values()
        epochs = max(1, round(args.images_seen / sum(of_class["images"] for of_class in classes)))
        recipes = {name: at_budget(recipe, params, epochs) for name, recipe in recipes.items()}
    times: dict[str, float] = read_json(TIMES) if TIMES.exists() else {}
    results = {}
    for name in args.detectors or recipes:
        commit = find_experiment(name)
        if commit and not is_current(commit, changed(params, recipes[name])):
            subprocess.run(["dvc", "exp", "remove", "--quiet", _PREFIX + name], check=True)
            commit = None
        if commit is None:
            times.pop(name, None)
            if (seconds := run_experiment(name, recipes[name])) is not None:
                times[name] = seconds
            write_json(times, TIMES)
            commit = find_experiment(name)
            assert commit is not None
        results[name] = read_result(commit)
    write_results(results, times)


if __name__ == "__main__":
    run(main)
