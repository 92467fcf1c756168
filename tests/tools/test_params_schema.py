"""The schema of params.yaml is of the classes, and every number in it has two bounds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.core.cli import InputError
from src.core.params import SCHEMA_JSON, load_params
from src.splitting.assignment import SplitParams
from tools.params_schema import SECTIONS, main, schema

ROOT = SCHEMA_JSON.parent


def test_the_file_is_of_the_classes_as_they_are(tmp_path: Path) -> None:
    main(["--to", str(tmp_path / "schema.json")])
    fresh = (tmp_path / "schema.json").read_text()
    assert SCHEMA_JSON.read_text() == fresh, "run `make deps`"


def numbers(name: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") in ("integer", "number"):
            yield name, node
        for key, child in node.items():
            yield from numbers(f"{name}.{key}", child)
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from numbers(f"{name}[{number}]", child)


def test_every_number_has_a_lower_and_an_upper_bound() -> None:
    unbounded = [
        name
        for name, node in numbers("", schema())
        if not {"minimum", "exclusiveMinimum"} & node.keys()
        or not {"maximum", "exclusiveMaximum"} & node.keys()
    ]
    assert unbounded == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "epochs: 12 ",
            "epochs: 0 ",
            r"train\.epochs: 0 is less than or equal to",
        ),
        ("warmup_epochs: 1 ", "warmup_epochs: .inf ", r"train\.warmup_epochs: 'Infinity' is not"),
        ("warmup_epochs: 1 ", "warmup_epochs: .nan ", r"train\.warmup_epochs: "),
        ("worst_images: 12 ", "worst_images: 9223372036854775808 ", r"evaluate\.worst_images: 9"),
        ("layer_decay: ", "layer_dekay: ", r"train: .*'layer_dekay' was unexpected"),
        ("heatmap_cells: 8 ", "heatmap_cells: many ", r"gallery\.heatmap_cells: 'many' is not of"),
    ],
)
def test_a_stage_finds_what_is_wrong_in_the_section_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text)
    load_params(SplitParams, "split")
    Path("params.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf"^params\.yaml: {message}"):
        load_params(SplitParams, "split")


def test_every_section_has_its_class() -> None:
    document = json.loads(SCHEMA_JSON.read_text())
    assert set(document["properties"]) == set(SECTIONS)
