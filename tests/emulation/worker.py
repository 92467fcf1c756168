"""Checks by their names, by any Python in the folder of a small run -> a digest of each."""

import os
import sys
from hashlib import sha256

import torch

from src.core import processor
from src.core.cli import run
from src.inference.scorer import prepare_torch
from tests.emulation.interpreter import NUMPY_SWITCH
from tests.emulation.parts import PARTS, SLOW_PARTS, Part
from tests.emulation.small_run import SHARES, STAGES, USES

# A group after the other on every processor: the cheapest and most telling first.
GROUPS = ({**PARTS, **STAGES, **USES}, {**SLOW_PARTS, **SHARES})
CHECKS = GROUPS[0] | GROUPS[1]


def digest(part: Part) -> str:
    """Return a digest of all that a part yields."""
    found = sha256()
    for made in part():
        values = made.detach().contiguous().numpy() if isinstance(made, torch.Tensor) else made
        found.update(values if isinstance(values, bytes) else values.tobytes())
    return found.hexdigest()[:12]


def main() -> None:
    """Print the name and the digest of each check as it is done."""
    if processor.is_asked_for():
        # What is left out because of the emulator is no reason to doubt the rest.
        processor.SWITCHES[NUMPY_SWITCH] = os.environ[NUMPY_SWITCH]
    prepare_torch(threads=1)
    for name in sys.argv[1:]:
        sys.stdout.write(f"{name}\t{digest(CHECKS[name])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run(main)
