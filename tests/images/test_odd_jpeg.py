"""JPEGs that libjpeg warns about: whole ones come out as Pillow's, damaged ones are refused."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.images.decode import UndecodableImage, decode

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def jpeg(mode: str = "RGB", quality: int = 85, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


PLAIN = jpeg()
SCAN = PLAIN.index(b"\xff\xda")
DATA = SCAN + 2 + int.from_bytes(PLAIN[SCAN + 2 : SCAN + 4])
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
ICC = b"ICC_PROFILE\x00"


def before_tables(inserted: bytes) -> bytes:
    tables = PLAIN.index(b"\xff\xdb")
    return PLAIN[:tables] + inserted + PLAIN[tables:]


def segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2) + content


WHOLE = {
    "scan parameters 0 0": PLAIN[: DATA - 3] + b"\x00\x00\x00" + PLAIN[DATA:],
    "scan parameters 1 63 17": PLAIN[: DATA - 3] + b"\x01\x3f\x11" + PLAIN[DATA:],
    "JFIF 2.1": PLAIN.replace(b"JFIF\x00\x01", b"JFIF\x00\x02", 1),
    "profile with a bad number": before_tables(segment(0xE2, ICC + b"\x05\x01" + b"x" * 40)),
    "profile without its second part": before_tables(segment(0xE2, ICC + b"\x01\x02x")),
    "Adobe with an unknown transform": before_tables(ADOBE + b"\x07"),
    "bytes between markers": before_tables(b"\x00\x12\x34"),
    "bytes before the scan": PLAIN[:SCAN] + b"\x00" * 9 + PLAIN[SCAN:],
    "bytes before the end": PLAIN[:-2] + bytes(range(1, 12)) + PLAIN[-2:],
    "zeros before the end": PLAIN[:-2] + b"\x00" * 3000 + PLAIN[-2:],
    "bytes after the end": PLAIN + b"\x00\xff\xd9junk",
    "several": b"".join(
        [
            before_tables(b"\x00\x00")[: DATA + 2 - 3],
            b"\x00\x00\x00",
            PLAIN[DATA:-2],
            b"\x00" * 50,
            PLAIN[-2:],
        ]
    ),
    "CMYK, subsampled": jpeg("CMYK", subsampling=2),
    "CMYK, subsampled, padded": jpeg("CMYK", subsampling=1)[:-2] + b"\x00" * 99 + b"\xff\xd9",
    "restart markers, odd scan": jpeg(restart_marker_blocks=7).replace(
        b"\x00\x3f\x00", b"\x00\x00\x00", 1
    ),
}
_ODD = jpeg("CMYK", subsampling=2)
DAMAGED = {
    "half": WHOLE["scan parameters 0 0"][: len(PLAIN) // 2],
    "half, ended": WHOLE["bytes between markers"][: len(PLAIN) // 2] + b"\xff\xd9",
    "no end": WHOLE["JFIF 2.1"][:-2],
    "data left over": PLAIN[:-2] + PLAIN[DATA : DATA + 300] + PLAIN[-2:],
    "data cut out": WHOLE["scan parameters 0 0"][:3000] + WHOLE["scan parameters 0 0"][3600:],
    "second oddity hides the damage": WHOLE["several"][:4000] + b"\xff\xd9",
    "CMYK, half": _ODD[: len(_ODD) // 2],
    "CMYK, half, ended": _ODD[: len(_ODD) // 2] + b"\xff\xd9",
    "CMYK, data left over": _ODD[:-2] + _ODD[3000:3300] + b"\xff\xd9",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_jpeg_comes_out_as_pillow_decodes_it(name: str) -> None:
    expected = np.array(Image.open(io.BytesIO(WHOLE[name])).convert("RGB"))
    np.testing.assert_array_equal(decode(WHOLE[name]), expected)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_jpeg_is_refused(name: str) -> None:
    with pytest.raises(UndecodableImage):
        decode(DAMAGED[name])


def test_odd_jpegs_of_phones() -> None:
    root = Path(os.environ.get("REAL_IMAGES", "../shared/data")) / "odd-inputs"
    if not root.is_dir():
        pytest.skip(f"no {root}: set REAL_IMAGES")
    for path in root.glob("*.jpg"):
        expected = np.array(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(decode(path.read_bytes()), expected)
