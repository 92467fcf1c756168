from types import SimpleNamespace
from typing import Any

import pytest

from src.core import processor
from src.training.outputs import is_exact


@pytest.mark.parametrize(
    ("device", "compiled", "switches", "expected"),
    [
        ("cpu", False, True, True),
        ("cpu", False, False, False),
        ("cpu", True, True, False),
        ("cuda", False, True, False),
    ],
)
def test_bits_are_promised_of_plain_training_on_a_cpu(
    device: str, compiled: bool, switches: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "is_exact", lambda: switches)
    trainer: Any = SimpleNamespace(
        accelerator=SimpleNamespace(device=SimpleNamespace(type=device)),
        params=SimpleNamespace(compile=compiled),
    )
    assert is_exact(trainer) is expected
