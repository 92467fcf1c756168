"""CIFAKE: CIFAR-10's photographs and Stable Diffusion 1.4's pictures of its classes, 32 x 32.

Source: Bird and Lotfi 2024, doi:10.1109/ACCESS.2024.3356122; Kaggle
`birdy654/cifake-real-and-ai-generated-synthetic-images`.
"""

from src.core.tables import FAKE, REAL
from src.sources.shared.origin_source import (
    OriginSource,
    match_names,
    open_data_set,
    without_copies,
)

DEFAULT_ORIGIN = "kaggle://birdy654/cifake-real-and-ai-generated-synthetic-images/versions/3"
_NAME = (
    r"^(?P<root>(?:.*/)?)(?P<given_split>train|test)/(?P<folder>REAL|FAKE)/"
    r"(?P<file>\d+(?: \((?P<number>\d+)\))?\.(?:jpg|jpeg|png))$"
)
# `0000.jpg` is the first class, `0000 (2).jpg` the second: CIFAR-10's order.
_CLASSES = {
    "": "airplane",
    "2": "automobile",
    "3": "bird",
    "4": "cat",
    "5": "deer",
    "6": "dog",
    "7": "frog",
    "8": "horse",
    "9": "ship",
    "10": "truck",
}
_METHODS = {"REAL": "cifar10", "FAKE": "cifake"}


def build(url: str) -> OriginSource:
    """Return CIFAKE, from anywhere in its layout; `url` is empty for Kaggle.

    Raises:
        InputError: it is not there, or not laid out as expected.
    """
    origin, cache = open_data_set(url, DEFAULT_ORIGIN)
    images = match_names(origin, _NAME, "train|test/REAL|FAKE/0000 (10).jpg")
    images = without_copies(images, ["given_split", "folder", "file"], origin)
    method = images["folder"].map(_METHODS)
    image_id = method + "/" + images["given_split"] + "/" + images["file"]
    catalogue = images[["given_split", "member"]].assign(
        image_id=image_id,
        method=method,
        family=images["folder"].map({"REAL": "real", "FAKE": "diffusion"}),
        category=images["number"].fillna("").map(_CLASSES).fillna(""),
        label=images["folder"].map({"REAL": REAL, "FAKE": FAKE}),
        group=image_id,
    )
    return OriginSource(origin, catalogue, dict.fromkeys(_METHODS.values(), "MIT"), cache)
