"""What a file says of itself: never used for the verdict, and as easily forged as removed."""

from collections.abc import Iterator
from typing import Any

from src.dataset.image_stats import jpeg_quality
from src.images.decode import open_header

_LONGEST = 300  # characters of a text that are shown
_EXIF = {0x010F: "camera maker", 0x0110: "camera", 0x0131: "software", 0x0132: "time"}
# Keys of PNG texts in which generators leave how they made a picture.
_GENERATORS = ("parameters", "prompt", "workflow", "dream", "sd-metadata", "invokeai_metadata")
_TEXTS = (*_GENERATORS, "Software", "Comment", "Description", "Title", "Author")
_MARKS = {
    "C2PA manifest": (b"jumb", b"c2pa"),
    "IPTC: made by a trained algorithm": (b"trainedAlgorithmicMedia",),
}


def facts(data: bytes) -> dict[str, Any]:
    """Return what stands in the file of an image beside its pixels, text by name.

    `jpeg_quality` is 1 to 100, 0 for other formats; marks are present or not, nobody checks them.
    """
    with open_header(data) as image:
        quality = jpeg_quality(getattr(image, "quantization", None) or {})
        said = dict(_said(image))
    marks = {name: all(part in data for part in parts) for name, parts in _MARKS.items()}
    return {"jpeg_quality": quality, "said": said, "marks": marks}


def _said(image: Any) -> Iterator[tuple[str, str]]:
    exif = image.getexif()
    for tag, name in _EXIF.items():
        if text := _text(exif.get(tag)):
            yield f"EXIF: {name}", text
    for key, value in image.info.items():
        if key in _TEXTS and (text := _text(value)):
            yield f"text: {key}", text


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = str(value or "").replace("\0", " ").strip()
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
