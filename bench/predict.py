"""How fast the CPU scores images, against eager PyTorch that sees one crop at a time.

Both may use all cores: PyTorch with a thread for each in every product of matrices, as it comes.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from PIL import Image

from bench.pictures import make_jpegs, shard_table
from bench.results import Figure, Outcome, at_least, at_most
from bench.timing import interleaved, medians, ratio, repeats
from src.core.arrays import FloatArray
from src.core.params import load_params
from src.core.tables import LABELS
from src.images.crops import GridCrops
from src.images.loader import ImageSet
from src.images.shards import ShardReader
from src.inference.embedder import embed
from src.inference.scorer import prepare_torch
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import Detector, build_detector
from src.models.shared.log_odds import fake_logit
from src.predict import PredictParams

IMAGES, ROUNDS = 512, 3


def run(scale: float, folder: Path) -> Outcome:
    """Score the same images with params.yaml's detector, untrained: its speed is the same."""
    model, params = load_params(ModelParams, "model"), load_params(PredictParams, "predict")
    prepare_torch(params.threads)
    count, per_side = max(8, round(IMAGES * scale)), params.crops_per_side
    table, raw = shard_table(make_jpegs(count), folder / "raw"), folder / "raw"
    detector = build_detector(model, tuple(LABELS.values()), seed=0).eval()
    accelerator = Accelerator()
    logits: dict[str, Sequence[float] | FloatArray] = {}

    def here() -> None:
        torch.set_num_threads(params.threads)
        images = ImageSet(table, raw, GridCrops(detector.config.view, per_side))
        found = embed(detector, images, params.batch_size, accelerator, "predict")
        logits["here"] = found.logits

    work: dict[str, Callable[[], object]] = {
        "here": here,
        "crop by crop": lambda: logits.update(eager=eager(table, raw, detector, per_side, 1)),
        "image by image": lambda: eager(table, raw, detector, per_side, per_side**2),
        "crop by crop, in one thread": lambda: eager(table, raw, detector, per_side, 1, 1),
    }
    costs = interleaved(rounds := repeats(ROUNDS, scale), work)
    difference = float(np.abs(np.subtract(logits["here"], logits["eager"])).max())
    against = "Pillow and eager PyTorch, batch 1"
    return Outcome(
        [
            Figure("images/s", against, ratio(costs, "crop by crop", "here", "wall"), at_least(3)),
            Figure("largest difference of a logit", against, difference, at_most(1e-4, "")),
        ],
        {
            "crops_per_image": per_side**2,
            "image_by_image_ratio": ratio(costs, "image by image", "here", "wall"),
            "in_one_thread_ratio": ratio(costs, "crop by crop, in one thread", "here", "wall"),
            "images": count,
            "median": medians(costs),
            "model": model.name,
            "processor_ratio": ratio(costs, "crop by crop", "here", "cpu"),
            "rounds": rounds,
        },
        ("accelerate", "pillow", "timm", "torch"),
    )


@torch.no_grad()
def eager(
    table: pd.DataFrame,
    root: Path,
    detector: Detector,
    per_side: int,
    batch: int,
    threads: int | None = None,
) -> list[float]:
    """Return the logit of each image, `batch` of its crops at a time; threads: one per core."""
    torch.set_num_threads(threads or os.cpu_count() or 1)
    reader, crops = ShardReader(root), GridCrops(detector.config.view, per_side)
    logits = []
    for row in table.to_dict("records"):
        data = reader.read(row["shard"], row["offset"], row["length"])
        seen = torch.from_numpy(crops(np.array(Image.open(io.BytesIO(data)).convert("RGB"))))
        outputs = torch.cat([detector(part) for part in torch.split(seen, batch)])
        logits.append(float(fake_logit(outputs.mean(0, keepdim=True).numpy())[0]))
    return logits
