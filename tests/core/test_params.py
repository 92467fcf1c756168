"""What a user reads when a parameter is wrong."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from src.core.cli import InputError
from src.core.params import RENAMED, STRICT, load_params
from tests.conftest import ROOT


@dataclass(frozen=True, config=STRICT)
class Section:
    learning_rate: Annotated[float, Field(gt=0)]
    epochs: Annotated[int, Field(ge=1, le=10)]
    flip: bool


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_section_is_loaded_with_its_types(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {learning_rate: 1e-4, epochs: 3, flip: true}\nother: {a: 1}\n")
    assert load_params(Section, "train", path) == Section(learning_rate=1e-4, epochs=3, flip=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epochs: 3, flip: true}", ["train.learning_rate", "missing"]),
        (
            "train: {learning_rate: 1e-4, epochs: 3, flip: true, lr: 1}",
            ["train.lr", "not a parameter"],
        ),
        (
            "train: {learning_rate: -1.0, epochs: 3, flip: true}",
            ["train.learning_rate = -1.0", "greater than 0"],
        ),
        (
            "train: {learning_rate: 1e-4, epochs: 11, flip: true}",
            ["train.epochs = 11", "less than or equal to 10"],
        ),
        (
            "train: {learning_rate: 1e-4, epochs: '3', flip: true}",
            ["train.epochs = '3'", "valid integer"],
        ),
        (
            "train: {learning_rate: 1e-4, epochs: 3, flip: 1}",
            ["train.flip = 1", "valid boolean"],
        ),
        ("split: {seed: 1}", ["section 'train' is missing", "['split']"]),
        ("train: {epochs: 3", ["not valid YAML"]),
        ("- 1", ["expected sections"]),
        ("train: {epochs: 3, epochs: 4}", ["not valid YAML", "epochs"]),
        ("train: 3", ["train = 3"]),
    ],
)
def test_a_wrong_section_names_key_value_and_range(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as error:
        load_params(Section, "train", path)
    for word in ["params.yaml", *words]:
        assert word in str(error.value)


def test_a_file_in_another_encoding_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("train: {name: größer}".encode("latin-1"))
    with pytest.raises(InputError, match=r"params\.yaml is not valid YAML: 'utf-8' codec"):
        load_params(Section, "train", path)


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"params\.yaml"):
        load_params(Section, "train", tmp_path / "params.yaml")


def test_a_renamed_parameter_is_answered_with_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RENAMED, "train.rate", "train.learning_rate")
    path = write(tmp_path, "train: {rate: 1e-4, epochs: 3, flip: true}\n")
    with pytest.raises(InputError, match=r"train\.rate is called train\.learning_rate now"):
        load_params(Section, "train", path)


def test_renamed_parameters_are_those_of_params_yaml() -> None:
    sections = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    for old, new in RENAMED.items():
        section, key = new.split(".")
        assert key in sections[section], new
        section, key = old.split(".")
        assert key not in sections.get(section, {}), old
