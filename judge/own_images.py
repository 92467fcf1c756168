"""Somebody's own images -> a calibrated verdict each, printed as a table, CSV or JSON."""

import argparse
import csv
import io
import json
import logging
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accelerate import Accelerator
from tqdm import tqdm

from src.core.cli import InputError
from src.core.files import replacing
from src.evaluation.calibration import Calibration, load_calibration
from src.explanation.occlusion import occlusion, paint
from src.images.crops import Crops
from src.images.decode import RGBImage, UndecodableImage, decode
from src.inference.embedder import Embedder
from src.inference.knn_distance import KnnIndex, load_knn_index, nearest
from src.inference.scorer import prepare_torch
from src.models.shared.detector import load_detector

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
  {SOME_UNREADABLE}  files that are no readable images, folders that cannot be searched or images
     without a heat-map are named; the others were judged"""
# What a folder is searched for; a file that is named outright is read whatever it is called.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
# Of a heat-map's name: file systems take 255, less what `replacing` adds to it.
NAME_BYTES = 200
HEATMAP_PIXELS = 1024  # of the longest side of what is written; large images are shrunk to it


class Verdict(NamedTuple):
    """What the detector says of one image."""

    path: str
    probability: float  # P(fake), calibrated
    verdict: str  # real or fake
    distance: float  # from the training images, see knn_distance.py
    unlike_training: bool


class Unreadable(NamedTuple):
    """A file that is not an image, or a folder that cannot be searched."""

    path: str
    reason: str


class Judge(NamedTuple):
    """All that the folder of models holds."""

    embedder: Embedder
    knn_index: KnnIndex
    calibration: Calibration

    @property
    def crop(self) -> Callable[[RGBImage], Crops]:
        """How an image is cut up, the same as when the threshold was chosen."""
        return self.embedder.detector.crops(self.knn_index.crops_per_side)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `judge_own_images` takes to `parser`, and what its help says."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add = parser.add_argument
    add("images", nargs="*", help="image files, folders to search, or - for paths from stdin")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON document")
    formats.add_argument("--csv", action="store_true", help="print CSV")
    add("--heatmap", type=Path, metavar="DIR", help="write what speaks for fake or real to DIR")
    cells, batch = "parts a side (%(default)s)", "images at once (%(default)s)"
    add("--heatmap-cells", type=_positive, default=8, metavar="N", help=cells)
    add("--models", type=Path, default=MODELS, metavar="DIR", help="the repository's own if left")
    add("--batch-size", type=_positive, default=32, metavar="N", help=batch)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, 1 or more")
    return int(text)


def judge_own_images(args: argparse.Namespace) -> None:
    """Print a verdict on each image that `args` name; exit with SOME_UNREADABLE if not on all.

    Raises:
        InputError: there is no image, no trained model, or no folder for the heat-maps.
        OSError: a heat-map cannot be written (a full disk); the verdicts have been printed.
    """
    _let_any_name_through()
    found = list(find_images(args.images, sys.stdin))
    if not found:
        raise InputError(f"no images in {' '.join(args.images)}")
    prepare_torch(threads=1)  # of each part of a batch: see Embedder
    judge = load_judge(args.models)
    if args.heatmap:
        _make_folder(args.heatmap)
    results = list(judge_images(judge, found, args.batch_size))
    verdicts = [result for result in results if isinstance(result, Verdict)]
    unreadable = [result for result in results if isinstance(result, Unreadable)]
    write = as_json if args.json else as_csv if args.csv else as_text
    sys.stdout.write(write(verdicts, unreadable, judge.calibration.threshold))
    sys.stdout.flush()  # heat-maps take long, and may fail: what is known is out before
    for path, reason in unreadable:
        logger.warning("%s: not judged: %s", shown(path), reason)
    missed = 0
    if args.heatmap:
        paths = [Path(verdict.path) for verdict in verdicts]
        missed = write_heatmaps(judge, paths, args.heatmap, args.heatmap_cells)
    if unreadable or missed:
        sys.exit(SOME_UNREADABLE)


def _let_any_name_through() -> None:
    """Let no file's name end the run: its bytes may be text in no encoding, or not in this one."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # whoever calls `main` may have put another
            stream.reconfigure(errors=errors)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--heatmap {folder}: no folder can be made there: {error.strerror}; name another"
        ) from error


def find_images(names: Iterable[str], stdin: Iterable[str]) -> Iterator[Path | Unreadable]:
    """Yield the files that `names` mean, folders in the order of their paths.

    A folder below them that cannot be searched has its place there too.
    """
    for name in names:
        if name == "-":
            yield from (Path(line.rstrip("\n")) for line in stdin if line.strip())
        elif _is_folder(Path(name)):
            yield from sorted(_below(name), key=_place)
        else:
            yield Path(name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, a closed folder above it: reading it will say so
        return False


def _place(found: Path | Unreadable) -> Path:
    return Path(found.path) if isinstance(found, Unreadable) else found


def _below(top: str) -> Iterator[Path | Unreadable]:
    closed: list[OSError] = []
    seen: set[Path] = set()
    for folder, children, names in os.walk(top, onerror=closed.append, followlinks=True):
        if (place := Path(folder).resolve()) in seen:
            children.clear()  # a link to a folder above it, or a second one to the same folder
            continue
        seen.add(place)
        children.sort()  # of several ways to the same folder always the same one is taken
        yield from (path for name in names if _may_be_image(path := Path(folder, name)))
    for error in closed:
        yield Unreadable(str(error.filename), f"a folder, not searched: {error.strerror}")


def _may_be_image(path: Path) -> bool:
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link to nowhere: reading it will say so
        return True


def load_judge(models: Path) -> Judge:
    """Return what training, `predict` and `calibrate` left in the folder `models`.

    Raises:
        InputError: something is missing or damaged, or does not belong to the rest.
    """
    names = ("detector.safetensors", "detector.json", "knn_index.safetensors", "calibration.json")
    weights, config, knn_index, calibration = (models / name for name in names)
    for path in (weights, config, knn_index, calibration):
        if not path.is_file():
            raise InputError(
                f"{path} is missing: fetch the trained model with `dvc pull`, or train it with "
                "`make repro`"
            )
    detector = load_detector(weights, config).to(Accelerator().device)
    judge = Judge(Embedder(detector), load_knn_index(knn_index), load_calibration(calibration))
    _check_index(judge, knn_index, weights)
    return judge


def _check_index(judge: Judge, path: Path, weights: Path) -> None:
    """Raise an InputError unless images can be compared with the kNN index at `path`."""
    features, _, neighbours = judge.knn_index
    mend = "fetch both with `dvc pull`, or make them with `make repro`"
    size = judge.embedder.detector.config.view.size
    crop = judge.crop(np.zeros((size, size, 3), dtype=np.uint8))[:1]
    width = judge.embedder.embed([crop]).features.shape[1]
    if features.shape[1:] != (width,):
        raise InputError(
            f"{path} has features of shape {features.shape}, but {weights} makes {width} of an "
            f"image: they are of different models; {mend}"
        )
    if not 1 <= neighbours <= len(features):
        raise InputError(
            f"{path} asks for the {neighbours} nearest of its {len(features)} images (neighbours): "
            f"there must be 1 to {len(features)}; {mend}"
        )


def read_image(path: Path) -> RGBImage | Unreadable:
    """Return the pixels of the file at `path`, or why there are none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return Unreadable(str(path), error.strerror or str(error))
    except ValueError as error:  # a NUL, or a character that no file's name has here
        reason = f"no path of a file ({error}); give one a line, as `find -print` does"
        return Unreadable(str(path), reason)
    try:
        return decode(data)
    except UndecodableImage as error:
        return Unreadable(str(path), str(error))


def judge_images(
    judge: Judge, found: Sequence[Path | Unreadable], batch_size: int
) -> Iterator[Verdict | Unreadable]:
    """Yield what is to be said of each of `found`, in their order."""

    def read(item: Path | Unreadable) -> Crops | Unreadable:
        image = read_image(item) if isinstance(item, Path) else item
        return image if isinstance(image, Unreadable) else judge.crop(image)

    with tqdm(total=len(found), desc="judge", unit=" images", disable=None) as bar:
        for names, batch in _read_ahead(read, found, batch_size):
            crops = [item for item in batch if not isinstance(item, Unreadable)]
            verdicts = iter(_judge_crops(judge, crops) if crops else ())
            for name, item in zip(names, batch, strict=True):
                if isinstance(item, Unreadable):
                    yield item
                else:
                    yield next(verdicts)._replace(path=str(name))
            bar.update(len(batch))


def _read_ahead(
    read: Callable[[Path | Unreadable], Crops | Unreadable],
    found: Sequence[Path | Unreadable],
    batch_size: int,
) -> Iterator[tuple[Sequence[Path | Unreadable], list[Crops | Unreadable]]]:
    waiting: deque[tuple[Sequence[Path | Unreadable], list[Future[Crops | Unreadable]]]] = deque()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(found), batch_size):
            part = found[start : start + batch_size]
            waiting.append((part, [pool.submit(read, item) for item in part]))
            if len(waiting) > 1:
                names, futures = waiting.popleft()
                yield names, [future.result() for future in futures]
        for names, futures in waiting:
            yield names, [future.result() for future in futures]


def _judge_crops(judge: Judge, crops: Sequence[Crops]) -> list[Verdict]:
    logits, features = judge.embedder.embed(crops)
    distances = nearest(judge.knn_index, features)[0][:, -1]
    probabilities = judge.calibration.probability(logits)
    return [
        Verdict(
            path="",
            probability=round(float(probability), 6),
            verdict="fake" if probability >= judge.calibration.threshold else "real",
            distance=float(distance),
            unlike_training=bool(distance > judge.calibration.ood_distance),
        )
        for probability, distance in zip(probabilities, distances, strict=True)
    ]


def write_heatmaps(judge: Judge, paths: Sequence[Path], folder: Path, cells: int) -> int:
    """Write a heat-map of each image to `folder`, named after its place and its file.

    Return how many images, named in the log, cannot be read any more.

    Raises:
        OSError: a heat-map cannot be written (a full disk).
    """
    missed = 0
    for number, path in enumerate(tqdm(paths, desc="heat-maps", disable=None)):
        image = read_image(path)
        if isinstance(image, Unreadable):
            logger.warning("%s: no heat-map: %s", shown(image.path), image.reason)
            missed += 1
            continue
        heat = occlusion(image, judge.crop, judge.embedder.logits, cells)
        # Encoded first: Pillow's own writing tells of a full disk as "encoder error -2".
        encoded = io.BytesIO()
        paint(image, heat, HEATMAP_PIXELS).save(encoded, "PNG")
        with replacing(folder / _picture_name(number, path.stem)) as temporary:
            temporary.write_bytes(encoded.getvalue())
    return missed


def _picture_name(number: int, stem: str) -> str:
    # By characters, not bytes: half of one would be no text.
    while len(os.fsencode(name := f"{number:05d}_{stem}.png")) > NAME_BYTES:
        stem = stem[:-1]
    return name


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
    return path.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
