"""What is known of ArtiFact's 33 methods: 8 sets of real images and 25 generators, as data.

Source: Rahman et al. 2023, arXiv:2302.11970, and the README of the data set (awsaf49/artifact),
whose table of licences this is: SPDX identifiers where it says which, else its own words. Neither
publishes how many images each method has; `None` where nobody else who read the tables says so.
"""

from dataclasses import dataclass

from src.core.tables import FAKE, REAL

UNKNOWN_LICENCE = "unknown"
IMAGES = {REAL: 964_989, FAKE: 1_531_749}  # in all methods together, as published

_CREATIVE_COMMONS = "Creative Commons, which one is not stated"
_NVIDIA = "Nvidia Source Code License"


@dataclass(frozen=True)
class KnownMethod:
    """A folder of ArtiFact."""

    family: str  # of its fakes; "real" where it has none
    licence: str
    labels: tuple[int, ...]
    images: int | None = None  # about so many


def _real(licence: str, images: int | None = None) -> KnownMethod:
    return KnownMethod("real", licence, (REAL,), images)


def _fake(family: str, licence: str, images: int | None = None) -> KnownMethod:
    return KnownMethod(family, licence, (FAKE,), images)


# The families are the paper's: 13 GANs, 7 diffusion models, 5 others. By its count the inpainting
# networks lama and mat, though trained with a discriminator, and sfhq, which is curated StyleGAN2,
# are others; diffusion_gan is a GAN whose training adds noise; denoising_diffusion_gan samples by
# denoising. cycle_gan and pro_gan hold the real images of their training sets as well.
METHODS = {
    "afhq": _real("CC-BY-NC-4.0", 31_933),
    "celebahq": _real("CC-BY-NC-4.0"),
    "coco": _real("CC-BY-4.0"),
    "ffhq": _real("CC-BY-NC-SA-4.0"),
    "imagenet": _real("non-commercial"),
    "landscape": _real("MIT"),
    "lsun": _real(UNKNOWN_LICENCE),
    "metfaces": _real("CC-BY-NC-2.0"),
    "big_gan": _fake("gan", "MIT"),
    "cips": _fake("gan", "MIT"),
    "cycle_gan": KnownMethod("gan", "BSD", (REAL, FAKE)),
    "diffusion_gan": _fake("gan", "MIT"),
    "gansformer": _fake("gan", "MIT"),
    "gau_gan": _fake("gan", "CC-BY-NC-SA-4.0"),
    "generative_inpainting": _fake("gan", _CREATIVE_COMMONS),
    "pro_gan": KnownMethod("gan", "CC-BY-NC-4.0", (REAL, FAKE)),
    "projected_gan": _fake("gan", "MIT"),
    "star_gan": _fake("gan", "MIT"),
    "stylegan1": _fake("gan", _CREATIVE_COMMONS),
    "stylegan2": _fake("gan", _NVIDIA, 1_000_000),
    "stylegan3": _fake("gan", _NVIDIA),
    "ddpm": _fake("diffusion", UNKNOWN_LICENCE, 896),
    "denoising_diffusion_gan": _fake("diffusion", "NVIDIA License"),
    "glide": _fake("diffusion", "MIT"),
    "latent_diffusion": _fake("diffusion", "MIT"),
    "palette": _fake("diffusion", "MIT"),
    "stable_diffusion": _fake("diffusion", "Apache-2.0"),
    "vq_diffusion": _fake("diffusion", "MIT"),
    "face_synthetics": _fake("other", "Research Use of Data Agreement v1.0"),
    "lama": _fake("other", "Apache-2.0"),
    "mat": _fake("other", _CREATIVE_COMMONS),
    "sfhq": _fake("other", "MIT"),
    "taming_transformer": _fake("other", "MIT"),
}
LICENCES = {method.licence for method in METHODS.values()}


def family_of(method: str, label: int) -> str:
    """Return the family, one of schema.FAMILIES, of an image; of unknown generators "other"."""
    if label == REAL:
        return "real"
    family = METHODS[method].family if method in METHODS else "other"
    return "other" if family == "real" else family


def licence_of(method: str) -> str:
    """Return the licence of one of ArtiFact's methods, "unknown" for others."""
    return METHODS[method].licence if method in METHODS else UNKNOWN_LICENCE
