"""Somebody's own images -> a calibrated verdict each, printed as a table, CSV or JSON."""

import argparse
import csv
import io
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from src.calibration import Calibration, load_calibration
from src.command import InputError
from src.decode import RGBImage, UndecodableImage, decode
from src.embedding import Embedder
from src.heatmap import occlusion, paint
from src.images import Crops
from src.models import load_detector
from src.reference import Reference, load_reference, nearest

logger = logging.getLogger(__name__)

MODELS = Path(__file__).parents[1] / "models"
SOME_UNREADABLE = 3  # exit code; 1 and 2 are those of every command: bad input, bad usage
DESCRIPTION = "Say of images whether they are photographs or were generated."
EPILOG = f"""\
The probability is calibrated; the verdict is that of the threshold with the best MCC on validation.
"unlike training" warns of an image that lies further from the training images than nearly all of
validation does: neither means much there.

exit codes:
  0  every image was judged
  1  there is nothing to judge, or nothing to judge with; the message says why
  2  wrong usage
  {SOME_UNREADABLE}  files that are no readable images are named; the others were judged"""
# What a folder is searched for; a file that is named outright is read whatever it is called.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
HEATMAP_PIXELS = 1024  # of the longest side of what is written; large images are shrunk to it


class Verdict(NamedTuple):
    """What the detector says of one image."""

    path: str
    probability: float  # P(fake), calibrated
    verdict: str  # real or fake
    distance: float  # from the training images, see reference.py
    unlike_training: bool


class Unreadable(NamedTuple):
    """A file that is not an image."""

    path: str
    reason: str


class Judge(NamedTuple):
    """All that the folder of models holds."""

    embedder: Embedder
    reference: Reference
    calibration: Calibration

    @property
    def crop(self) -> Callable[[RGBImage], Crops]:
        """How an image is cut up, the same as when the threshold was chosen."""
        return self.embedder.detector.crops(self.reference.crops_per_side)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `judge_own_images` takes to `parser`, and what its help says."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add = parser.add_argument
    add("images", nargs="*", help="image files, folders to search, or - for paths from stdin")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON document")
    formats.add_argument("--csv", action="store_true", help="print CSV")
    add("--heatmap", type=Path, metavar="DIR", help="write what speaks for fake or real to DIR")
    add("--heatmap-cells", type=int, default=8, metavar="N", help="parts a side (%(default)s)")
    add("--models", type=Path, default=MODELS, metavar="DIR", help="the repository's own if left")
    add("--batch-size", type=int, default=32, metavar="N", help="images at once (%(default)s)")


def judge_own_images(args: argparse.Namespace) -> None:
    """Print a verdict on each image that `args` name; exit with SOME_UNREADABLE if not on all.

    Raises:
        InputError: there is no image, or no trained model.
    """
    paths = list(find_images(args.images, sys.stdin))
    if not paths:
        raise InputError(f"no images in {' '.join(args.images)}")
    judge = load_judge(args.models)
    results = list(judge_images(judge, paths, args.batch_size))
    verdicts = [result for result in results if isinstance(result, Verdict)]
    unreadable = [result for result in results if isinstance(result, Unreadable)]
    if args.heatmap:
        write_heatmaps(judge, [Path(v.path) for v in verdicts], args.heatmap, args.heatmap_cells)
    write = as_json if args.json else as_csv if args.csv else as_text
    sys.stdout.write(write(verdicts, unreadable, judge.calibration.threshold))
    for path, reason in unreadable:
        logger.warning("%s: not judged: %s", shown(path), reason)
    if unreadable:
        sys.exit(SOME_UNREADABLE)


def find_images(names: Iterable[str], stdin: Iterable[str]) -> Iterator[Path]:
    """Yield the files that `names` mean, folders in the order of their paths."""
    for name in names:
        if name == "-":
            yield from (Path(line.rstrip("\n")) for line in stdin if line.strip())
        elif Path(name).is_dir():
            found = (path for path in Path(name).rglob("*") if path.is_file())
            yield from sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
        else:
            yield Path(name)


def load_judge(models: Path) -> Judge:
    """Return what training, `predict` and `calibrate` left in the folder `models`.

    Raises:
        InputError: something is missing or damaged.
    """
    names = ("detector.safetensors", "detector.json", "reference.safetensors", "calibration.json")
    weights, identity, reference, calibration = (models / name for name in names)
    for path in (weights, identity, reference, calibration):
        if not path.is_file():
            raise InputError(
                f"{path} is missing: fetch the trained model with `dvc pull`, or train it with "
                "`make repro`"
            )
    detector = load_detector(weights, identity).to(Accelerator().device)
    return Judge(Embedder(detector), load_reference(reference), load_calibration(calibration))


def judge_images(
    judge: Judge, paths: Sequence[Path], batch_size: int
) -> Iterator[Verdict | Unreadable]:
    """Yield what is to be said of each of `paths`, in their order."""

    def read(path: Path) -> Crops | Unreadable:
        try:
            return judge.crop(decode(path.read_bytes()))
        except (OSError, UndecodableImage) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            return Unreadable(str(path), reason or str(error))

    with tqdm(total=len(paths), desc="judge", unit=" images", disable=None) as bar:
        for names, batch in _read_ahead(read, paths, batch_size):
            crops = [item for item in batch if not isinstance(item, Unreadable)]
            verdicts = iter(_judge_crops(judge, crops) if crops else ())
            for name, item in zip(names, batch, strict=True):
                if isinstance(item, Unreadable):
                    yield item
                else:
                    yield next(verdicts)._replace(path=str(name))
            bar.update(len(batch))


def _read_ahead(
    read: Callable[[Path], Crops | Unreadable], paths: Sequence[Path], batch_size: int
) -> Iterator[tuple[Sequence[Path], list[Crops | Unreadable]]]:
    waiting: deque[tuple[Sequence[Path], list[Future[Crops | Unreadable]]]] = deque()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), batch_size):
            part = paths[start : start + batch_size]
            waiting.append((part, [pool.submit(read, path) for path in part]))
            if len(waiting) > 1:
                names, futures = waiting.popleft()
                yield names, [future.result() for future in futures]
        for names, futures in waiting:
            yield names, [future.result() for future in futures]


@torch.no_grad()
def _judge_crops(judge: Judge, crops: Sequence[Crops]) -> list[Verdict]:
    pixels = torch.from_numpy(np.concatenate(crops)).to(judge.embedder.detector.mean.device)
    both = judge.embedder(pixels).float().view(len(crops), len(crops[0]), -1).mean(1).cpu()
    logits, features = judge.embedder.split(both)
    distances = nearest(judge.reference, features)[0][:, -1]
    probabilities = judge.calibration.probability(logits)
    return [
        Verdict(
            path="",
            probability=round(float(probability), 6),
            verdict="fake" if probability >= judge.calibration.threshold else "real",
            distance=float(distance),
            unlike_training=bool(distance > judge.calibration.far_distance),
        )
        for probability, distance in zip(probabilities, distances, strict=True)
    ]


def write_heatmaps(judge: Judge, paths: Sequence[Path], folder: Path, cells: int) -> None:
    """Write a heat-map of each image to `folder`, named after its place and its file."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = tqdm(enumerate(paths), total=len(paths), desc="heat-maps", disable=None)
    for number, path in numbers:
        image: RGBImage = decode(path.read_bytes())
        heat = occlusion(image, judge.crop, judge.embedder.detector, cells)
        paint(image, heat, HEATMAP_PIXELS).save(folder / f"{number:05d}_{path.stem}.png")


def as_text(verdicts: Sequence[Verdict], unreadable: Sequence[Unreadable], threshold: float) -> str:
    """Return a table to read."""
    width = max((len(shown(verdict.path)) for verdict in verdicts), default=0)
    lines = [
        f"{shown(path):<{width}}  {verdict}  {probability:.3f}" + "  unlike training" * unlike
        for path, probability, verdict, _, unlike in verdicts
    ]
    fakes = sum(verdict.verdict == "fake" for verdict in verdicts)
    last = f"{fakes} fake, {len(verdicts) - fakes} real at P(fake) >= {threshold:.3f}"
    missed = [f"{len(unreadable)} not judged"] if unreadable else []
    return "\n".join([*lines, ", ".join([last, *missed])]) + "\n"


def as_csv(verdicts: Sequence[Verdict], unreadable: Sequence[Unreadable], threshold: float) -> str:
    """Return one row per image that was judged."""
    del unreadable, threshold
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Verdict._fields)
    writer.writerows((shown(verdict.path), *verdict[1:]) for verdict in verdicts)
    return text.getvalue()


def as_json(verdicts: Sequence[Verdict], unreadable: Sequence[Unreadable], threshold: float) -> str:
    """Return one document: threshold, images, unreadable."""
    document = {
        "threshold": threshold,
        "images": [verdict._asdict() | {"path": shown(verdict.path)} for verdict in verdicts],
        "unreadable": [item._asdict() | {"path": shown(item.path)} for item in unreadable],
    }
    return json.dumps(document, indent=2) + "\n"


def shown(path: str) -> str:
    """Return `path` as text that can be printed, whatever bytes a file's name has."""
    return path.encode("utf-8", "backslashreplace").decode()
