"""What no run could bear is refused before the first stage runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from src.core.cli import InputError
from src.core.params import load_params
from src.models.shared.blueprint import ModelParams
from src.training.augmentation import AugmentParams
from src.training.config import TrainParams
from tests.helpers.make_training import AUGMENT, MODEL, TRAIN

SECTIONS: dict[str, tuple[type, Any]] = {
    "model": (ModelParams, MODEL),
    "train": (TrainParams, TRAIN),
    "augment": (AugmentParams, AUGMENT),
}
NUMBERS = [
    (section, name)
    for section, (_, usual) in SECTIONS.items()
    for name, value in vars(usual).items()
    if isinstance(value, int | float | tuple) and not isinstance(value, bool)
]


def load(folder: Path, section: str, **changes: Any) -> Any:
    cls, usual = SECTIONS[section]
    path = folder / "params.yaml"
    # JSON is YAML but for its infinity.
    text = json.dumps({section: vars(usual) | changes}).replace("Infinity", ".inf")
    path.write_text(text.replace("NaN", ".nan"))
    return load_params(cls, section, path)


@pytest.mark.parametrize(("section", "name"), NUMBERS)
@pytest.mark.parametrize("value", [10**9, 2.0**40, float("inf"), float("nan"), -1])
def test_every_number_has_bounds(tmp_path: Path, section: str, name: str, value: float) -> None:
    usual = getattr(SECTIONS[section][1], name)
    if name == "seed" and value == 10**9:
        assert load(tmp_path, section, seed=value).seed == value
        return
    given: Any = [0, value] if isinstance(usual, tuple) else value
    with pytest.raises(InputError, match=rf"{section}\.{name}(\.1)? = ") as caught:
        load(tmp_path, section, **{name: given})
    assert "\n" not in str(caught.value)


def test_a_batch_that_leaves_no_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train: learning_rate = 0.001 .* is 1.2\d*e-07 for"):
        load(tmp_path, "train", learning_rate_batch=65536)
