"""Images -> a calibrated verdict each."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from PIL import Image

from judge.command_line import MODELS
from judge.files import Unreadable
from judge.pixels import PixelBudget, Source, pixels_of, read_bytes, upright
from judge.runtimes import Runtime, find_file, load_runtime
from src.core.arrays import Float32Array
from src.core.cli import InputError
from src.explanation.occlusion import occlusion, paint
from src.images.crops import Crops
from src.images.decode import UndecodableImage, decode
from src.inference.knn_distance import KnnIndex, load_knn_index, nearest, ood_distances
from src.probes.appearance import appearance

logger = logging.getLogger(__name__)

PIXELS_IN_FLIGHT = 2**26  # decoded at one time; a larger image is decoded alone
HEATMAP_PIXELS = 1024  # of the longest side of a heat-map; large images are shrunk to it


class Verdict(NamedTuple):
    """What the detector says of one image."""

    path: str  # empty where the image is no file
    probability: float  # P(fake), calibrated
    verdict: str  # real, fake or unsure
    distance: float  # from the training images, see knn_distance.py
    unlike_training: bool


class Seen(NamedTuple):
    """What is kept of an image once it is decoded."""

    crops: Crops
    appearance: Float32Array  # see appearance.py


Looked = tuple[Verdict, list[tuple[float, int]]]


class Judge:
    """A trained detector with all that its verdict takes."""

    def __init__(self, runtime: Runtime, index: KnnIndex) -> None:
        """Join what `load` has read."""
        self.runtime, self.index, self.calibration = runtime, index, runtime.calibration
        self._budget = PixelBudget(PIXELS_IN_FLIGHT)

    @classmethod
    def load(cls, models: Path | str = MODELS, runtime: str = "auto", threads: int = 0) -> Self:
        """Return the judge that the folder `models` holds; `runtime` is auto, onnx or torch.

        ONNX Runtime takes `threads`, 0: one per core.

        Raises:
            InputError: something is missing or damaged, or does not belong to the rest.
        """
        folder = Path(models)
        loaded = load_runtime(folder, runtime, threads)
        judge = cls(loaded, load_knn_index(path := find_file(folder, "knn_index.safetensors")))
        _check_index(judge, path)
        return judge

    def with_threshold(self, threshold: float) -> Self:
        """Return a judge that calls images fake from P(fake) = `threshold`, and is never unsure."""
        judge = type(self)(self.runtime, self.index)
        judge.calibration = replace(self.calibration, threshold=threshold, unsure=None)
        return judge

    @property
    def trained_on(self) -> str:
        """What the detector was trained on, a sentence."""
        return self.runtime.trained_on

    @property
    def identity(self) -> str:
        """What verdicts depend on beside the image, as a digest."""
        arrays = (array.tobytes() for array in (self.index.features, self.index.appearances))
        parts = (self.runtime.weights_sha256, self.calibration, *arrays)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part if isinstance(part, bytes) else repr(part).encode())
        return digest.hexdigest()

    def __call__(self, image: Source) -> Verdict:
        """Return the verdict on a path, the bytes of a file, an array (H, W, 3) or Pillow's image.

        Raises:
            UndecodableImage: it is not there, or no image.
        """
        return self.look(image)[0]

    def look(self, image: Source) -> Looked:
        """Return the verdict as from a call, and the nearest training images.

        Each has its distance and its position in the index; the nearest comes first.
        """
        ((verdict, neighbours),) = self._of_seen([_name(image)], [self.see(image)])
        return verdict, neighbours

    def judge_all(
        self, images: Iterable[Source | Unreadable], batch_size: int = 32
    ) -> Iterator[Verdict | Unreadable]:
        """Yield what is to be said of each of `images`, in their order, a batch at a time."""

        def read(image: Source | Unreadable) -> Seen | Unreadable:
            if isinstance(image, Unreadable):
                return image
            try:
                return self.see(image)
            except UndecodableImage as error:
                return Unreadable(_name(image), str(error))

        for batch in read_ahead(read, images, batch_size):
            seen = [(_name(image), item) for image, item in batch if isinstance(item, Seen)]
            verdicts = iter(self._of_seen(*zip(*seen, strict=True)) if seen else ())
            for _, item in batch:
                yield item if isinstance(item, Unreadable) else next(verdicts)[0]

    def see(self, image: Source) -> Seen:
        """Return what an image is judged by."""
        with pixels_of(image, self._budget) as pixels:
            height, width = pixels.shape[:2]
            if 2 * min(height, width) < self.runtime.size:
                logger.warning(
                    "%r: %d x %d pixels, and the detector looks at %d a side: too few to say "
                    "anything; judge the original, not a thumbnail",
                    *(_name(image) or "an image", width, height, self.runtime.size),
                )
            seen = Seen(self.runtime.crop(pixels), appearance(pixels))
            del pixels  # before another image is decoded
            return seen

    def heatmap(self, image: str | Path | bytes, cells: int = 8) -> Image.Image:
        """Return what of a file, or of its bytes, speaks for fake (orange) or real (teal).

        It stands upright, and no side is longer than HEATMAP_PIXELS.

        Raises:
            UndecodableImage: it is not there, or no image.
        """
        data = image if isinstance(image, bytes) else read_bytes(Path(image))
        pixels = decode(data)
        heat = occlusion(pixels, self.runtime.crop, self.runtime.logits, cells)
        return upright(paint(pixels, heat, HEATMAP_PIXELS), data)

    def _of_seen(self, names: Sequence[str], seen: Sequence[Seen]) -> list[Looked]:
        logits, features = self.runtime.embed([image.crops for image in seen])
        shifts = ood_distances(self.index, np.stack([image.appearance for image in seen])).tolist()
        distances, positions = (found.tolist() for found in nearest(self.index, features))
        probabilities = self.calibration.probability(logits)
        verdicts = self.calibration.verdicts(probabilities)
        return [
            (
                Verdict(
                    name,
                    round(float(probability), 6),
                    verdict,
                    shift,
                    shift > self.calibration.ood_distance,
                ),
                list(zip(far, at, strict=True)),
            )
            for name, probability, verdict, shift, far, at in zip(
                names, probabilities, verdicts, shifts, distances, positions, strict=True
            )
        ]


def _check_index(judge: Judge, path: Path) -> None:
    features, neighbours = judge.index.features, judge.index.neighbours
    cure = "fetch all of the folder with `dvc pull`, or make it with `make repro`"
    side = judge.runtime.size
    black = judge.runtime.crop(np.zeros((side, side, 3), dtype=np.uint8))
    width = judge.runtime.embed([black])[1].shape[1]
    if features.shape[1:] != (width,):
        raise InputError(
            f"{path} has features of shape {features.shape}, but the detector beside it makes "
            f"{width} of an image: they are of different models; {cure}"
        )
    if not 1 <= neighbours <= len(features):
        raise InputError(
            f"{path} wants the {neighbours} nearest of its {len(features)} images "
            f"(neighbours): there must be 1 to {len(features)}; {cure}"
        )


def _name(image: object) -> str:
    if isinstance(image, Unreadable):
        return image.path
    return str(image) if isinstance(image, str | Path) else ""


Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], batch_size: int
) -> Iterator[list[tuple[Item, Result]]]:
    """Yield `items` with what `read` makes of them, in batches, while threads read the next one."""
    left = iter(items)
    waiting: deque[list[tuple[Item, Future[Result]]]] = deque()
    pool = ThreadPoolExecutor()
    try:
        while part := list(islice(left, batch_size)):
            waiting.append([(item, pool.submit(read, item)) for item in part])
            if len(waiting) > 1:
                yield [(item, future.result()) for item, future in waiting.popleft()]
        for batch in waiting:
            yield [(item, future.result()) for item, future in batch]
    finally:  # an interrupt must not wait for what nobody will look at
        pool.shutdown(cancel_futures=True)
