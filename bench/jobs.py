"""The jobs: each is the module of that name here; its `run(scale, folder)` gives an `Outcome`."""

import importlib
import os
import tempfile
from pathlib import Path

from bench.results import Outcome

JOBS = (
    "metadata",
    "split",
    "duplicates",
    "plan",
    "loader",
    "transfer",
    "s3_ingest",
    "train_step",
    "predict",
    "judge",
    "evaluate",
    "no_change",
    "growth",
)


def run_job(job: str, scale: float) -> Outcome:
    """Return the outcome of `job`, its sizes multiplied by `scale`."""
    # Bars of what is measured would cost time and say nothing here.
    os.environ |= {"TQDM_DISABLE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "DVC_NO_ANALYTICS": "1"}
    module = importlib.import_module(f"bench.{job}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        outcome: Outcome = module.run(scale, Path(folder))
    return outcome
