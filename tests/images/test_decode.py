"""Tests of src/images/decode.py."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.images.decode import RGBImage, UndecodableImage, decode, open_header

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> RGBImage:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


JPEG = encoded(Image.fromarray(PIXELS), "JPEG", quality=90)
SMALL = Image.fromarray(PIXELS[:8, :8])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_bit_identical_to_pillow(mode: str) -> None:
    data = encoded(Image.fromarray(PIXELS).convert(mode), "JPEG", quality=77)
    pixels = decode(data)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, by_pillow(data))


def test_cmyk_jpeg() -> None:
    data = encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG")
    np.testing.assert_allclose(decode(data).astype(int), by_pillow(data).astype(int), atol=1)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg(subsampling: int, progressive: bool) -> None:
    image = Image.fromarray(PIXELS)
    data = encoded(image, "JPEG", subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(decode(data), by_pillow(data))


@pytest.mark.parametrize(
    ("format_", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "1"), ("BMP", "RGB"), ("TIFF", "RGB")],
)
def test_lossless_formats_give_the_pixels_back(format_: str, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, format_)
    np.testing.assert_array_equal(decode(data), np.array(image.convert("RGB")))
    assert open_header(data).format == format_


def test_palette_with_transparency() -> None:
    image = Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE)
    data = encoded(image, "PNG", transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode(data), np.array(image.convert("RGB")))


def test_webp() -> None:
    data = encoded(Image.fromarray(PIXELS), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(data), PIXELS)
    assert open_header(data).format == "WEBP"


def test_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.fromarray(PIXELS), "JPEG", exif=exif)).shape == PIXELS.shape


def test_of_sixteen_bits_of_a_colour_the_higher_eight_are_taken() -> None:
    colours = (np.arange(48, dtype=np.uint16) * 1301).reshape(4, 4, 3)
    _, data = cv2.imencode(".png", colours[..., ::-1])
    np.testing.assert_array_equal(decode(data.tobytes()), colours >> 8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        JPEG[: len(JPEG) // 2],
        JPEG[:-2],
        JPEG[:700] + b"\xff\x00\x12" * 20 + JPEG[760:],
        encoded(Image.fromarray(PIXELS), "PNG")[:-600],
        encoded(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG"),
    ],
    ids=["empty", "text", "half", "no end", "overwritten", "half png", "16 bits"],
)
def test_damaged_images_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableImage):
        decode(data)


def test_a_jpeg_that_only_claims_to_be_huge_is_refused_before_memory_is_asked_for() -> None:
    start = JPEG.index(b"\xff\xc0") + 5  # height and width of the frame header
    huge = JPEG[:start] + (65500).to_bytes(2, "big") * 2 + JPEG[start + 4 :]
    with pytest.raises(UndecodableImage, match=r"65500 x 65500 pixels, more than 178,956,970"):
        decode(huge)


def test_a_damaged_avif_is_refused() -> None:
    whole = encoded(Image.fromarray(PIXELS), "AVIF")
    for place in range(0, len(whole), 7):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            decode(damaged)
        except UndecodableImage:
            continue


def test_unknown_format_is_named() -> None:
    with pytest.raises(UndecodableImage, match="starts with b'not an i'"):
        open_header(b"not an image")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=300)
@given(
    data=st.sampled_from([JPEG, *(encoded(SMALL, name) for name in ("PNG", "GIF", "WEBP", "BMP"))]),
    places=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_no_other_error_escapes(data: bytes, places: list[tuple[int, int]]) -> None:
    broken = bytearray(data)
    for place, value in places:
        broken[place % len(broken)] = value
    try:
        pixels = decode(bytes(broken))
    except UndecodableImage:
        return
    assert pixels.shape[2] == 3
