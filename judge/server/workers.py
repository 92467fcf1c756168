"""Processes that judge images for the server; one that takes too long is ended."""

import asyncio
import io
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from judge.judging import Judge
from judge.server.facts import facts
from src.images.decode import UndecodableImage, open_header

_IMAGES_PER_PROCESS = 10_000  # then a fresh one takes over: libraries may leak


@dataclass(frozen=True)
class Limits:
    """What the server takes at most."""

    seconds: int  # that an image may take
    megapixels: int  # of an image
    megabytes: int  # of a request
    queue: int  # images that are judged or wait for it
    files: int  # of a request


class BusyError(Exception):
    """As many images wait as may."""


class FailedError(Exception):
    """An image could not be judged; the message says why."""


class Workers:
    """A bounded queue of images, and the processes that take from it."""

    def __init__(self, models: Path, runtime: str, processes: int, limits: Limits) -> None:
        """Start `processes`, each with a judge of its own."""
        self.limits = limits
        self.waiting = 0
        self._pool = ProcessPool(
            processes,
            max_tasks=_IMAGES_PER_PROCESS,
            initializer=_load,
            initargs=(models, runtime, limits.megapixels * 10**6),
            context=get_context("spawn"),  # threads and forks do not mix
        )

    def reserve(self, images: int) -> None:
        """Take `images` places in the queue.

        Raises:
            BusyError: there are not as many.
        """
        if self.waiting + images > self.limits.queue:
            raise BusyError
        self.waiting += images

    async def judge(self, data: bytes) -> dict[str, Any]:
        """Return what is to be said of the image in `data`; gives its reserved place back.

        Raises:
            FailedError: it is no image, too large, or takes too long.
        """
        found: dict[str, Any] = await self.run(_judge, data)
        return found

    async def heatmap(self, data: bytes) -> bytes:
        """Return the heat-map of the image in `data`, a PNG; otherwise as `judge`."""
        picture: bytes = await self.run(_heatmap, data)
        return picture

    async def run(self, work: Any, data: bytes) -> Any:
        """Return what `work` makes of `data` in a process; otherwise as `judge`."""
        future = None
        try:
            future = self._pool.schedule(work, args=(data,), timeout=self.limits.seconds)
            return await asyncio.wrap_future(future)
        except UndecodableImage as error:
            raise FailedError(str(error)) from error
        except (TooLate, TimeoutError) as error:
            raise FailedError(f"it took more than {self.limits.seconds} s") from error
        except (ProcessExpired, MemoryError) as error:
            raise FailedError("it needs more memory than there is") from error
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """End the processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


class _Loaded:
    judge: Judge
    max_pixels: int


def _load(models: Path, runtime: str, max_pixels: int) -> None:
    _Loaded.judge, _Loaded.max_pixels = Judge.load(models, runtime, threads=1), max_pixels


def _check_size(data: bytes) -> tuple[str, int, int]:
    with open_header(data) as image:
        width, height = image.size
        form = image.format or ""
    if width * height > _Loaded.max_pixels:
        raise UndecodableImage(
            f"{width} x {height} pixels, more than {_Loaded.max_pixels:,}: shrink it, or judge it "
            "with `python -m judge`"
        )
    return form, width, height


def _judge(data: bytes) -> dict[str, Any]:
    form, width, height = _check_size(data)
    verdict, neighbours = _Loaded.judge.look(data)
    return {
        "verdict": verdict.verdict,
        "probability": verdict.probability,
        "distance": verdict.distance,
        "unlike_training": verdict.unlike_training,
        "format": form,
        "width": width,
        "height": height,
        "facts": facts(data),
        "neighbours": [{"position": at, "distance": far} for far, at in neighbours],
    }


def _heatmap(data: bytes) -> bytes:
    _check_size(data)
    encoded = io.BytesIO()
    _Loaded.judge.heatmap(data).save(encoded, "PNG")
    return encoded.getvalue()
