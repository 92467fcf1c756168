"""Published weights: a file or a tag of timm -> tensors -> a network."""

import argparse
import logging
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models import load_state_dict_from_hf
from torch import Tensor, nn

from src.core.cli import InputError
from src.core.files import replacing

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]
NO_WEIGHTS = "none"
FILES = (".safetensors", ".pth", ".pt", ".pth.tar", ".bin", ".ckpt")
WAYS_OUT = (
    "Without a network: take what another clone has fetched and pushed (`dvc repro --pull "
    "weights`); or copy its Hugging Face cache and set HF_HOME to the copy; or download the model "
    "elsewhere and name the file (model.weights) or folder (model.backbone)"
)


# Where trainings put the weights beside the optimiser's state, the best score and so on.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_DISTRIBUTED = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's, before every name
_SHOWN = 3  # names in a message
_DTYPES = "?bBhHiIlLqQefdFD"
# What else those files hold: none of it runs code when it is read.
_HARMLESS: list[Any] = [
    *(argparse.Namespace, PosixPath, set),
    *(np.dtype, np.ndarray, *{type(np.dtype(letter)) for letter in _DTYPES}),
    *(
        (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")  # NumPy 1 says core, 2 _core
        for core in ("core", "_core")
        for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(0)))
    ),
]


def save_weights(state: StateDict, path: Path) -> None:
    """Write `state` as safetensors.

    Raises:
        OSError: it cannot be written (a full disk).
    """
    with replacing(path) as temporary:
        save_file(state, temporary)


def load_weights(path: Path, stage: str) -> StateDict:
    """Return what `save_weights` wrote in the stage `stage`.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise InputError(
            f"{path} is damaged ({error}): run the stage {stage!r} again, or restore the file"
        ) from error


def read_weights(path: Path) -> StateDict:
    """Return the tensors of a file, by name, without what a training has wrapped them in.

    Raises:
        InputError: there is no such file, it holds something else, or more than one network.
    """
    if not path.is_file():
        raise InputError(
            f"model.weights: there is no file {path}, looked for as {path.resolve()}: give an "
            "absolute path (`dvc exp run` with --temp or --queue works in a folder of its own)"
        )
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises half a dozen unrelated types here, and all of them mean this:
        raise InputError(f"{_no_weights(path)}; {_cause(path, error)}") from error
    return _without(_DISTRIBUTED, _unwrapped(loaded, path))


def _cause(path: Path, error: Exception) -> str:
    if "TorchScript" in str(error):
        return "it is a program: torch.save(torch.jit.load(...).state_dict(), ...) writes them"
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - no file of torch, and as many types as above
        return "it is damaged, or holds other objects"
    unknown = [name for name in others if name not in {_full_name(each) for each in _HARMLESS}]
    if not unknown:
        return "it is damaged"
    return (
        f"it holds other objects ({_some(unknown)}), which could run code: where you trust it, "
        "torch.load(..., weights_only=False), and torch.save of the tensors alone"
    )


def _full_name(known: Any) -> str:
    return known[1] if isinstance(known, tuple) else f"{known.__module__}.{known.__qualname__}"


def _unwrapped(loaded: Any, path: Path) -> StateDict:
    """Return the one state dict in what a file held."""
    if not isinstance(loaded, dict):
        raise InputError(_no_weights(path))
    inner = {name: found for name, value in loaded.items() if (found := _tensors(value))}
    usual = [name for name in _WRAPPERS if name in inner] or list(inner)
    if len(usual) > 1:
        raise InputError(
            f"model.weights: {path} holds weights {len(usual)} times, under {_some(usual)}: "
            f"keep one: torch.save(torch.load(...)[{usual[0]!r}], ...)"
        )
    state = inner[usual[0]] if usual else _tensors(loaded)
    if not state:
        raise InputError(f"{_no_weights(path)}; it has {_some(map(str, loaded)) or 'nothing'}")
    return state


def _tensors(value: Any) -> StateDict:
    """Return the named tensors of `value`, without the numbers between them."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {key: x for key, x in pairs if isinstance(key, str) and isinstance(x, Tensor)}


def _without(prefixes: Collection[str], state: StateDict) -> StateDict:
    for prefix in prefixes:
        if all(key.startswith(prefix) for key in state):
            return _without(prefixes, {key[len(prefix) :]: x for key, x in state.items()})
    return state


def _no_weights(path: Path) -> str:
    return (
        f"model.weights: {path} holds no weights: expected a name and a tensor for each, alone or "
        f"under {', '.join(map(repr, _WRAPPERS))}"
    )


def _some(names: Iterable[str]) -> str:
    first, *others = [*names] or [""]
    shown = [first, *others[: _SHOWN - 1]]
    return ", ".join(shown) + (", ..." if len(others) >= _SHOWN else "")


def fetch_weights(timm_name: str, tag: str) -> StateDict:
    """Return the weights that timm's hub has under `timm_name`.`tag`.

    Raises:
        InputError: there is no such tag, or the hub cannot be reached.
    """
    tags = [name.split(".", 1)[1] for name in timm.list_pretrained(f"{timm_name}.*")]
    if tag not in tags:
        raise InputError(
            f"model.weights = {tag!r}: for {timm_name} choose {NO_WEIGHTS!r}, "
            f"a file ({', '.join(FILES)}) or one of the tags {tags}"
        )
    hub_id = str(timm.get_pretrained_cfg_value(f"{timm_name}.{tag}", "hf_hub_id"))
    try:
        state: StateDict = load_state_dict_from_hf(hub_id)
    except OSError as error:
        raise InputError(
            f"model.weights: {timm_name}.{tag} could not be fetched ({type(error).__name__}). "
            f"{WAYS_OUT}"
        ) from error
    return state


def without_prefix(network: nn.Module, state: StateDict, origin: str) -> StateDict:
    """Return `state` under the names of `network`, where those of a larger network hold it.

    The prefix (`model.`, `backbone.`, ...) is the one below which most of the names are.

    Raises:
        InputError: there are two such prefixes.
    """
    wanted = network.state_dict().keys()
    found: Counter[str] = Counter()
    for key in state:
        words = key.split(".")
        for place in range(len(words)):
            if ".".join(words[place:]) in wanted:
                found[key[: len(key) - len(".".join(words[place:]))]] += 1
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if not best or "" in best:
        return state
    if len(best) > 1 and 2 * most > len(wanted):
        raise InputError(
            f"model.weights: {origin} holds this model {len(best)} times, under {_some(best)}: "
            "keep the weights of one of them"
        )
    return {k.removeprefix(best[0]): x for k, x in state.items() if k.startswith(best[0])}


def load_matching(
    network: nn.Module, state: StateDict, fresh: Collection[str], origin: str
) -> None:
    """Load `state` into `network`; what begins with one of `fresh` stays as it is.

    Raises:
        InputError: other weights are missing or of another shape.
    """
    own = network.state_dict()
    named = without_prefix(network, state, origin)
    body = {key: value for key, value in named.items() if not key.startswith(tuple(fresh))}
    missing = [key for key in own if key not in body and not key.startswith(tuple(fresh))]
    other = [key for key, value in body.items() if key in own and value.shape != own[key].shape]
    if missing or other:
        shapes = (f"{key} {list(body[key].shape)}, not {list(own[key].shape)}" for key in other)
        found = f"of another shape: {_some(shapes)}" if other else f"it has {_some(state)}"
        raise InputError(
            f"model.weights: {origin} is not of this model: {len(missing)} of {len(own)} weights "
            f"are missing ({_some(missing) or 'none'}); {found}: choose the model.name and "
            "model.image_size that it is of, or rename its weights"
        )
    unused = network.load_state_dict(body, strict=False).unexpected_keys
    logger.info("weights from %s; not used: %s", origin, unused or "none")
