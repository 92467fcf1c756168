"""Published weights: a file or a tag of timm -> tensors -> a network."""

import argparse
import errno
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path

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
FILES = (".safetensors", ".pth", ".pt")
WAYS_OUT = (
    "Without a network: take what another clone has fetched and pushed (`dvc repro --pull "
    "weights`); or copy its Hugging Face cache and set HF_HOME to the copy; or download the model "
    "elsewhere and name the file (model.weights) or folder (model.backbone)"
)


def save_weights(state: StateDict, path: Path) -> None:
    """Write `state` as safetensors.

    Raises:
        OSError: it cannot be written (a full disk).
    """
    with replacing(path) as temporary:
        try:
            save_file(state, temporary)
        except SafetensorError as error:
            system = re.search(r"os error (\d+)", str(error))  # the only trace of it
            number = int(system[1]) if system else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error


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
    """Return the tensors of a file, by name; of official checkpoints those under "model".

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(
            f"model.weights: there is no file {path}, looked for as {path.resolve()}: give an "
            "absolute path (`dvc exp run` with --temp or --queue works in a folder of its own)"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals([argparse.Namespace]):  # of the official training
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises half a dozen unrelated types here, and all of them mean this:
        raise InputError(f"{_no_weights(path)}; it is damaged, or holds other objects") from error
    state = loaded.get("model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise InputError(_no_weights(path))
    return state


def _no_weights(path: Path) -> str:
    return (
        f"model.weights: {path} holds no weights: expected a name and a tensor for each, alone or "
        "under 'model'"
    )


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


def load_matching(
    network: nn.Module, state: StateDict, fresh: Collection[str], origin: str
) -> None:
    """Load `state` into `network`; what begins with one of `fresh` stays as it is.

    Raises:
        InputError: other weights are missing or of another shape.
    """
    body = {key: value for key, value in state.items() if not key.startswith(tuple(fresh))}
    try:
        result = network.load_state_dict(body, strict=False)
    except RuntimeError as error:  # equal names, other shapes
        raise InputError(f"model.weights: {origin} is not of this model: {error}") from error
    missing = [key for key in result.missing_keys if not key.startswith(tuple(fresh))]
    if missing:
        raise InputError(
            f"model.weights: {origin} is not of this model: {len(missing)} of its weights are "
            f"missing, first {missing[0]}"
        )
    logger.info("weights from %s; not used: %s", origin, result.unexpected_keys or "none")
