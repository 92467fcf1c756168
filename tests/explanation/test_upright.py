import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from src.explanation.upright import upright
from src.images.decode import decode


def encoded(orientation: int | None, kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_stored_pixels_stand_as_people_see_the_file(orientation: int | None, kind: str) -> None:
    file = encoded(orientation, kind)
    seen = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    found = upright(Image.fromarray(decode(file)), file)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(seen))
