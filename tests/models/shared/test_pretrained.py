"""Checkpoints as people bring them: wrapped, prefixed, with other things beside the weights."""

from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.core.cli import InputError
from src.models.shared.pretrained import StateDict, load_matching, read_weights


def network() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2))
    )


def prefixed(state: StateDict, prefix: str) -> StateDict:
    return {f"{prefix}{key}": value for key, value in state.items()}


def loads(path: Path, state: StateDict) -> None:
    """Assert that the file at `path` gives a network the weights `state`, but for the head."""
    fresh = network()
    load_matching(fresh, read_weights(path), ("head.",), str(path))
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, state[key]) is not key.startswith("head."), key


@pytest.fixture
def state() -> StateDict:
    return network().state_dict()


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [
        ("a.pth.tar", "state_dict"),
        ("a.pt", "model"),
        ("a.pth", "model_state_dict"),
        ("a.pth", "net"),
        ("a.ckpt", "ema"),
        ("a.bin", ""),
    ],
)
def test_what_the_weights_are_wrapped_in_is_taken_off(
    tmp_path: Path, state: StateDict, name: str, wrapper: str
) -> None:
    beside: dict[str, Any] = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "best": np.float64(0.9),
        "args": Namespace(lr=0.1, out=Path("runs")),
    }
    torch.save({wrapper: state, **beside} if wrapper else state, tmp_path / name)
    loads(tmp_path / name, state)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "backbone.",
        "module.encoder.",
        "a.b.",
    ],
)
@pytest.mark.parametrize("others", [{}, {"criterion.weight": torch.zeros(2)}])
def test_a_prefix_of_all_names_is_taken_off(
    tmp_path: Path, state: StateDict, prefix: str, others: StateDict
) -> None:
    torch.save(prefixed(state, prefix) | others, tmp_path / "a.pth")
    loads(tmp_path / "a.pth", state)
    save_file(prefixed(state, prefix) | others, tmp_path / "a.safetensors")
    loads(tmp_path / "a.safetensors", state)


def test_a_head_of_another_size_and_name_is_no_obstacle(tmp_path: Path, state: StateDict) -> None:
    body = {key: value for key, value in state.items() if not key.startswith("head.")}
    torch.save(prefixed(body, "backbone.") | {"fc.weight": torch.zeros(9, 4)}, tmp_path / "a.pth")
    loads(tmp_path / "a.pth", state)


@pytest.mark.parametrize(
    "number",
    [
        *(np.float64(1), np.float32(1), np.float16(1), np.int64(1), np.uint8(1), np.bool_(True)),
        *(np.arange(3), np.zeros((2, 2), np.float32), np.dtype("float32")),
        *(Path("runs"), {1, 2}, 1j),
    ],
    ids=repr,
)
def test_numbers_beside_the_weights_are_read(
    tmp_path: Path, state: StateDict, number: object
) -> None:
    torch.save({"state_dict": state, "found": number}, tmp_path / "a.pth")
    loads(tmp_path / "a.pth", state)


def test_names_of_numpy_1_are_read(tmp_path: Path, state: StateDict) -> None:
    # The archive of today's format counts bytes, and the old name is shorter: the older has none.
    torch.save(
        {"state_dict": state, "found": np.float64(1)},
        tmp_path / "b.pth",
        _use_new_zipfile_serialization=False,
    )
    plain = (tmp_path / "b.pth").read_bytes()
    old = plain.replace(b"numpy._core.multiarray\nscalar", b"numpy.core.multiarray\nscalar")
    assert old != plain
    (tmp_path / "b.pth").write_bytes(old)
    loads(tmp_path / "b.pth", state)


class Payload:
    """Runs code when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


class Trainer:
    """An object of somebody's training."""


@pytest.mark.parametrize(
    "beside", [Payload(), Trainer(), nn.Linear(2, 2)], ids=["payload", "trainer", "layer"]
)
def test_other_objects_are_refused_and_named_and_no_code_is_run(
    tmp_path: Path, state: StateDict, monkeypatch: pytest.MonkeyPatch, beside: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state, "beside": beside}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth holds no weights.*it holds other objects \(\S+"):
        read_weights(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_program_of_torchscript_is_named(tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(tmp_path / "a.pt"))
    with pytest.raises(InputError, match=r"it is a program: torch\.save\(torch\.jit\.load"):
        read_weights(tmp_path / "a.pt")


def test_two_networks_in_a_file_are_not_guessed_between(tmp_path: Path, state: StateDict) -> None:
    torch.save({"teacher": state, "student": state}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds weights 2 times, under teacher, student: keep"):
        read_weights(tmp_path / "a.pth")
    both = prefixed(state, "encoder_q.") | prefixed(state, "encoder_k.")
    with pytest.raises(InputError, match=r"two\.pth holds this model 2 times, under encoder_q\.,"):
        load_matching(network(), both, (), "two.pth")


def test_of_a_model_and_its_average_the_model_counts(tmp_path: Path, state: StateDict) -> None:
    other = {key: value + 1 for key, value in state.items()}
    torch.save({"model_ema": other, "model": state}, tmp_path / "a.pth")
    loads(tmp_path / "a.pth", state)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"conv.weight": None}, r"1 of 9 weights are missing \(conv\.weight\); it has conv\.bias,"),
        ({"conv.weight": torch.zeros(8, 3, 3, 3)}, r"shape: conv\.weight \[8, 3, 3, 3\], not \[4,"),
    ],
)
def test_what_the_network_wants_and_the_file_has_is_said(
    state: StateDict, changed: dict[str, Any], said: str
) -> None:
    found = {key: value for key, value in (state | changed).items() if value is not None}
    with pytest.raises(
        InputError, match=rf"^model\.weights: a\.pth is not of this model: .*{said}"
    ):
        load_matching(network(), found, ("head.",), "a.pth")
    strange = prefixed(state, "strange_")
    with pytest.raises(
        InputError, match=r"7 of 9 .*\(conv\.weight, conv\.bias, norm\.weight, \.\.\.\);"
    ):
        load_matching(network(), strange, ("head.",), "a.pth")


def test_a_file_with_other_things_says_which(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1, "loss": 1.0, "seed": 0}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds no weights.*; it has epoch, lr, loss, \.\.\.$"):
        read_weights(tmp_path / "a.pth")
