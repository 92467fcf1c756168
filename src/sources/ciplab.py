"""Real and fake face detection (CIPLab, Yonsei University): faces that experts edited by hand.

Source: Kaggle `ciplab/real-and-fake-face-detection`; its description explains the file names.
"""

from src.core.tables import FAKE, REAL
from src.sources.shared.origin_source import (
    OriginSource,
    match_names,
    open_data_set,
    without_copies,
)

DEFAULT_ORIGIN = "kaggle://ciplab/real-and-fake-face-detection/versions/1"
_NAME = (
    r"^(?P<root>(?:.*/)?)real_and_fake_face/(?P<path>(?:training_real/(?P<real>real)_\d+"
    r"|training_fake/(?P<level>easy|mid|hard)_\d+_(?P<edited>[01]{4}))\.(?:jpg|jpeg|png))$"
)
_PARTS = ("left eye", "right eye", "nose", "mouth")  # what each digit of the name stands for


def build(url: str) -> OriginSource:
    """Return the faces, from anywhere in their layout; `url` is empty for Kaggle.

    A method is how hard the editing is to see; `edited_parts` in the catalogue says where it is.

    Raises:
        InputError: they are not there, or not laid out as expected.
    """
    origin, cache = open_data_set(url, DEFAULT_ORIGIN)
    images = match_names(origin, _NAME, "real_and_fake_face/training_fake/easy_100_1111.jpg")
    images = without_copies(images, ["path"], origin)
    real = images["real"] == "real"
    method = "ciplab_" + images["level"].mask(real, "real")
    image_id = method + "/" + images["path"]
    catalogue = images[["member"]].assign(
        image_id=image_id,
        method=method,
        family=method.map(lambda name: "real" if name == "ciplab_real" else "other"),
        category="human face",
        label=(~real).map({False: REAL, True: FAKE}),
        group=image_id,
        given_split="",
        edited_parts=images["edited"].fillna("").map(_edited_parts),
    )
    return OriginSource(origin, catalogue, dict.fromkeys(method.unique(), "CC-BY-NC-SA-4.0"), cache)


def _edited_parts(digits: str) -> str:
    return ", ".join(part for part, digit in zip(_PARTS, digits, strict=False) if digit == "1")
