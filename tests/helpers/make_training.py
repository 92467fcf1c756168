"""A split table with shards, and settings that train on it in seconds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import save_file
from torch import nn

from src.core.hashing import image_key
from src.core.tables import write_table
from src.dataset.columns import SPLIT_TABLE
from src.images.shards import write_shard
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import build_detector, save_config
from src.training.augmentation import AugmentParams
from src.training.config import TrainParams
from src.training.outputs import Outputs
from src.training.setup import Settings
from tests.helpers.make_data import METHODS, encode, make_image

AUGMENT = AugmentParams(
    min_area=0.5,
    flip=0.5,
    quarter_turns=1.0,
    rotate=0.2,
    rotate_degrees=10.0,
    blur=0.2,
    blur_sigma=(0.1, 1.0),
    noise=0.2,
    noise_std=(0.0, 0.05),
    brightness_contrast=0.2,
    brightness_contrast_limit=0.2,
    rescale=0.2,
    rescale_factor=(0.5, 2.0),
    jpeg=0.2,
    jpeg_quality=(65, 100),
    webp=0.2,
    webp_quality=(65, 100),
)
# Neither resampled nor recompressed: what a test wants to be learnt is there in every epoch.
PLAIN = replace(
    AUGMENT,
    quarter_turns=0.0,
    rotate=0.0,
    blur=0.0,
    noise=0.0,
    brightness_contrast=0.0,
    rescale=0.0,
    jpeg=0.0,
    webp=0.0,
)
MODEL = ModelParams(
    name="beit3_nano",
    backbone="",
    weights="none",
    image_size=32,
    view="native",
    drop_path=0.2,
)
TRAIN = TrainParams(
    seed=0,
    epochs=3,
    patience=10,
    select="best",
    batch_size=8,
    accumulation=1,
    sampling="all",
    learning_rate=1e-3,
    learning_rate_batch=8,
    warmup_epochs=1.0,
    beta2=0.98,
    weight_decay=0.05,
    layer_decay=0.9,
    label_smoothing=0.1,
    clip_norm=1.0,
    ema_decay=0.9,
    head="binary",
    precision="fp32",
    compile=False,
    gradient_checkpointing=False,
    val_crops_per_side=2,
    threads=1,
    shares=1,
    exact=True,
)


def settings(augment: AugmentParams = AUGMENT, **changes: Any) -> Settings:
    """Return settings for seconds of training; `changes` are fields of `train`."""
    return Settings(MODEL, replace(TRAIN, **changes), augment)


def make_split(
    root: Path, counts: Sequence[tuple[str, int]] = (("train", 6), ("val", 3)), size: int = 40
) -> pd.DataFrame:
    """Write shards into the new folder `root`; return the table of `counts` images per method."""
    root.mkdir(parents=True)
    total = sum(count for _, count in counts)
    splits = [split for split, count in counts for _ in range(count)]
    frames = []
    for number, (method, (fake, _, category)) in enumerate(METHODS.items()):
        ids = [f"{method}/{i:03d}.jpg" for i in range(total)]
        images = [encode(make_image(1000 * number + i, size, fake=fake)) for i in range(total)]
        shard = f"{method}-00000.tar"
        names = [f"{image_key(image_id):016x}.jpg" for image_id in ids]
        places = write_shard(root / shard, zip(names, images, strict=True))
        columns = {
            "image_id": ids,
            "split": splits,
            "method": method,
            "family": "gan" if fake else "real",
            "category": category,
            "label": int(fake),
            "group": ids,
            "shard": shard,
            "offset": [offset for offset, _ in places],
            "length": [length for _, length in places],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def outputs(folder: Path) -> Outputs:
    """Return the paths that training writes, in `folder`."""
    names = ("detector.safetensors", "detector.json", "train.json", "training.csv", "batch.png")
    return Outputs(*(folder / name for name in names))


def write_inputs(folder: Path, changes: Settings) -> list[str]:
    """Write all that the stage `train` reads into `folder`; return its command line's paths."""
    table = make_split(folder / "raw")
    write_table(table, folder / "splits.csv", SPLIT_TABLE)
    (folder / "raw" / "manifest.json").write_text("{}\n")
    (folder / "gate").write_text("passed\n")
    save_file({}, folder / "start.safetensors")
    sections = dict(zip(("model", "train", "augment"), map(vars, changes), strict=True))
    (folder / "params.yaml").write_text(json.dumps(sections))  # JSON is YAML
    return ["splits.csv", "raw", "gate", "start.safetensors", *map(str, outputs(Path("out")))]


def write_detector_inputs(folder: Path, predict: Mapping[str, Any]) -> None:
    """Write what the stage `predict` reads into `folder`, with section `predict`."""
    table = make_split(folder / "raw", [("train", 2), ("val", 1), ("test", 2)])
    write_table(table, folder / "splits.csv", SPLIT_TABLE)
    detector = build_detector(MODEL, ("real", "glide", "stylegan2"), 0)
    nn.init.normal_(detector.network.get_parameter("head.weight"))
    save_file(detector.network.state_dict(), folder / "detector.safetensors")
    save_config(detector.config, folder / "detector.json")
    (folder / "params.yaml").write_text(json.dumps({"predict": dict(predict)}))  # JSON is YAML
