"""How many augmented images a second come out of the loader, against others with two workers too.

Crops, flips and turns are as params.yaml has them, once for `view: native` and once for `resized`
to the 224 pixels of pretrained weights. In the first epoch the loader of the train stage decodes
and keeps the pixels (src/images/pixel_cache.py), later ones read them back; of images that do not
fit into that store, every epoch is like the first.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets as torchvision_datasets
from torchvision import transforms

from bench.pictures import make_jpegs, shard_table, write_class_folders
from bench.results import Figure, Outcome, at_least
from bench.timing import Cost, installed, medians, ratio, repeats
from src.core.params import load_params
from src.images.crops import View
from src.images.decode import decode
from src.images.loader import BatchLoader, ImageSet, Request
from src.images.pixel_cache import PixelCache
from src.images.shards import ShardReader
from src.inference.scorer import prepare_torch
from src.models.shared.blueprint import ModelParams
from src.training.augmentation import Augmentation, AugmentParams
from src.training.config import TrainParams

IMAGES, BATCH, WORKERS, ROUNDS = 3840, 64, 2, 3
LARGE = 224
# What workers fetch ahead while they start is not counted: 2 x 4 batches, and some.
WARM_SHARE = 0.25
FIRST = "here, first epoch"
EPOCHS = {FIRST: "first epoch", "here": "later epochs"}
GOALS = {
    "ImageFolder + PIL": 5.0,
    "webdataset": 1.5,
    "Hugging Face datasets": 1.5,
    "decoding alone": 0.7,
}

Loader = Callable[[], Iterable[Any]]


def run(scale: float, folder: Path) -> Outcome:
    """Read the same images through every loader, in turn."""
    # As the train stage does; workers have it from here, those of the others too.
    prepare_torch(load_params(TrainParams, "train").threads)
    count = max(4 * BATCH, round(IMAGES * scale) // BATCH * BATCH)
    jpegs = make_jpegs(count)
    table = shard_table(jpegs, folder / "raw", per_shard=-(-count // 8))
    write_class_folders(jpegs, folder / "loose")
    if installed("datasets"):
        write_arrow(jpegs, folder / "arrow")
    params = load_params(AugmentParams, "augment")
    figures, details, speed = [], {}, {}
    kept = PixelCache(folder / "kept", count, space=1 << 40)
    views = [
        View(load_params(ModelParams, "model").image_size, resize=False),
        View(LARGE, resize=True),
    ]
    for view in views:
        work = loaders(table, folder, params, view, kept)
        pace(work["here"]())  # all pixels are kept, whatever the share that is counted
        costs = measure(work, repeats(ROUNDS, scale))
        name = f"{'resized' if view.resize else 'native'} {view.size} px"
        figures += compared(costs, name)
        details[name] = medians(costs)
        seconds = details[name]["here"]["cpu_seconds"]
        # The system counts in hundredths of a second: a trial's few batches may come to none.
        speed[name] = BATCH / seconds if seconds else None
    return Outcome(
        figures,
        {
            "batch_size": BATCH,
            "images": count,
            "images_of_a_core_second": speed,
            "per_batch": details,
            "workers": WORKERS,
        },
        ("albumentations", "datasets", "pillow", "simplejpeg", "torch", "webdataset"),
    )


def compared(costs: dict[str, list[Cost]], name: str) -> list[Figure]:
    """Return the figures of one view."""
    return [
        Figure(
            f"images/s, {name}, {epoch}", other, ratio(costs, other, ours, "wall"), at_least(goal)
        )
        for ours, epoch in EPOCHS.items()
        for other, goal in GOALS.items()
    ]


def measure(work: dict[str, Loader], rounds: int) -> dict[str, list[Cost]]:
    """Return what a batch costs, by loader and round."""
    costs: dict[str, list[Cost]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, loader in work.items():
            costs[name].append(pace(loader()))
    return costs


def pace(batches: Iterable[Any]) -> Cost:
    """Return the cost of a batch once the workers have started."""
    times: list[tuple[float, float]] = []
    iterator = iter(batches)
    processes = [psutil.Process()]
    for _ in iterator:
        if not times:
            processes += psutil.Process().children(recursive=True)
        times.append((time.perf_counter(), _cpu(processes)))
    first = round(len(times) * WARM_SHARE)
    counted = len(times) - 1 - first
    wall, cpu = (last - begin for begin, last in zip(times[first], times[-1], strict=True))
    return Cost(wall / counted, cpu / counted)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def loaders(
    table: pd.DataFrame, folder: Path, params: AugmentParams, view: View, kept: PixelCache
) -> dict[str, Loader]:
    """Return what begins to yield batches, by name; all shuffle but webdataset, which cannot."""
    raw = folder / "raw"
    order = np.random.default_rng(0).permutation(len(table)).reshape(-1, BATCH)
    requests = [Request(0, rows.tolist()) for rows in order]
    augmentation = Augmentation(params, view, 0)
    images = ImageSet(table, raw, augmentation, kept=kept)

    def first_epoch() -> ImageSet:
        empty = PixelCache(folder / "kept", len(table), space=1 << 40)
        return ImageSet(table, raw, augmentation, kept=empty)

    decoded = Decoded(table, raw)
    usual = usual_transform(params, view)
    as_floats = transforms.Compose(
        [usual, transforms.ConvertImageDtype(torch.float32), transforms.Normalize(0.5, 0.5)]
    )
    found: dict[str, Loader] = {
        "here": lambda: BatchLoader(images, requests, BATCH, WORKERS),
        FIRST: lambda: BatchLoader(first_epoch(), requests, BATCH, WORKERS),
        "decoding alone": lambda: torch_loader(decoded, BATCH, collate_fn=len),
        "ImageFolder + PIL": lambda: torch_loader(
            torchvision_datasets.ImageFolder(str(folder / "loose"), as_floats), BATCH, shuffle=True
        ),
    }
    if installed("webdataset"):
        found["webdataset"] = lambda: torch_loader(web_dataset(raw, usual), None)
    if installed("datasets"):
        found["Hugging Face datasets"] = lambda: torch_loader(
            arrow_dataset(folder / "arrow", usual), BATCH, shuffle=True
        )
    return found


def torch_loader(images: Any, batch_size: int | None, **options: Any) -> "DataLoader[Any]":
    """Return PyTorch's loader with as many workers as the others."""
    cv2.setNumThreads(0)
    return DataLoader(
        images,
        batch_size,
        num_workers=WORKERS,
        persistent_workers=True,
        prefetch_factor=4,
        **options,
    )


class Decoded(Dataset[None]):
    """The images of a table, decoded and thrown away: no loader can be faster."""

    def __init__(self, table: pd.DataFrame, root: Path) -> None:
        """Read `table` from the shards in `root`."""
        places = zip(table["shard"], table["offset"], table["length"], strict=True)
        self.places, self.reader = list(places), ShardReader(root)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.places)

    def __getitems__(self, rows: Sequence[int]) -> list[None]:
        """Decode a batch."""
        for row in rows:
            decode(self.reader.read(*self.places[row]))
        return [None] * len(rows)


def usual_transform(params: AugmentParams, view: View) -> Callable[[Image.Image], Tensor]:
    """Return crop, flip and turns as torchvision's users write them, to uint8 (3, size, size)."""
    crop: Callable[[Image.Image], Image.Image] = transforms.RandomCrop(view.size)
    if view.resize:
        crop = transforms.RandomResizedCrop(
            view.size,
            scale=(params.min_area, 1.0),
            interpolation=transforms.InterpolationMode.BICUBIC,
        )
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            crop,
            transforms.RandomHorizontalFlip(params.flip),
            transforms.RandomApply([Turn()], params.quarter_turns),
            transforms.PILToTensor(),
        ]
    )
    return composed


class Turn(torch.nn.Module):
    """Turns a Pillow image by a random multiple of a quarter."""

    def forward(self, image: Image.Image) -> Image.Image:
        """Return the image, turned."""
        turn = int(torch.randint(4, ()))
        return image.transpose(Image.Transpose(turn + 1)) if turn else image


def web_dataset(root: Path, transform: Callable[[Image.Image], Tensor]) -> Any:
    """Return webdataset's pipeline over the shards."""
    import webdataset

    shards = [str(path) for path in sorted(root.glob("*.tar"))]
    pipeline = webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb").to_tuple("jpg")
    return pipeline.map_tuple(transform).batched(BATCH)


def write_arrow(jpegs: Sequence[bytes], path: Path) -> None:
    """Write a data set of Hugging Face's kind."""
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    columns = {
        "image": [{"bytes": content, "path": None} for content in jpegs],
        "label": [number % 2 for number in range(len(jpegs))],
    }
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(path)


def arrow_dataset(path: Path, transform: Callable[[Image.Image], Tensor]) -> Any:
    """Return what `write_arrow` wrote, transformed a batch at a time."""
    import datasets

    def transformed(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        images = [transform(image.convert("RGB")) for image in batch["image"]]
        return {"image": images, "label": batch["label"]}

    return datasets.load_from_disk(path).with_transform(transformed)
