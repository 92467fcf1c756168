"""Figures and slices of several image sets -> the page and the metrics of the study."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from judge.judging import Judge
from src.reporting.markdown import code, markdown_table, with_interval
from studies.transfer.figures import ALL_TITLES

_WORST = 12  # slices of a set


def page(
    judge: Judge, table: pd.DataFrame, slices: pd.DataFrame, left_out: Mapping[str, int]
) -> str:
    """Return what `make transfer` ends with, as Markdown.

    `table` holds `figures` of each set with set, images and groups, `slices` slice tables with set;
    `left_out` counts the near-duplicates of training images in each.
    """
    text = [
        "# Transfer: image sets that the detector was not trained on",
        "",
        f"Threshold {judge.calibration.threshold:.3f}, frozen on validation; weights "
        f"{code(judge.runtime.weights_sha256[:12])}. In brackets: intervals over groups.",
        "",
        _figures(table),
        "",
    ]
    for name, count in left_out.items():
        text += [f"## {name}: called right, by slice, the worst first", ""]
        if count:
            text += [f"Left out: {count} near-duplicates of training or validation images.", ""]
        text += [_slices(slices[slices["set"] == name].head(_WORST)), ""]
    return "\n".join(text)


def _figures(table: pd.DataFrame) -> str:
    names = table["set"].unique()
    first = table.drop_duplicates("set").set_index("set")
    sizes = [f"{first.loc[name, 'images']:,} ({first.loc[name, 'groups']:,})" for name in names]
    cells = {(row["figure"], row["set"]): _cell(row) for row in table.to_dict("records")}
    rows = [
        (title, *(cells[figure, name] for name in names)) for figure, title in ALL_TITLES.items()
    ]
    return markdown_table(("figure", *names), [("images (groups)", *sizes), *rows])


def _cell(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["value"]):
        return "none"
    return with_interval(row["value"], row["low"], row["high"])


def _slices(worst: pd.DataFrame) -> str:
    rows = [
        (
            row["name"],
            f"{row['images']:,}",
            with_interval(row["correct"], row["correct_low"], row["correct_high"]),
            f"{row['correct'] - row['difference']:.3f}",
        )
        for row in worst.to_dict("records")
    ]
    return markdown_table(("slice", "images", "called right", "rest of its class"), rows)


def document(table: pd.DataFrame) -> dict[str, Any]:
    """Return metrics.json: each set's figures with their ends; what has no value is left out."""
    found: dict[str, Any] = {}
    for row in table.dropna(subset=["value"]).to_dict("records"):
        name = row["figure"]
        values = {name: row["value"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
        found.setdefault(row["set"], {"images": row["images"]}).update(values)
    return {"transfer": found}
