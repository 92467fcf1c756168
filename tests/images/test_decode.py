"""Tests of src/images/decode.py."""

import io
import warnings
from typing import Any

import cv2
import numpy as np
import pillow_heif
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


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2, "4:1:1"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg(mode: str, subsampling: int | str, progressive: bool) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
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


@pytest.mark.filterwarnings(r"ignore:Corrupt EXIF data:UserWarning:PIL\.")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (encoded(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG"), "PNG with .* 16 bits"),
        (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "TIFF with 32-bit float"),
        (encoded(Image.fromarray(np.zeros((4, 4), np.int32)), "TIFF"), "TIFF with 32-bit integers"),
        (encoded(Image.new("LAB", (4, 4)), "TIFF"), "TIFF with CIELAB colours; convert it to RGB"),
        (cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))[1].tobytes(), "3 x 32-bit float"),
        (cv2.imencode(".hdr", np.ones((4, 4, 3), np.float32))[1].tobytes(), "Radiance HDR is not"),
        (b"II*\0\xff\xff\xff\xff", "damaged TIFF"),
        (encoded(Image.fromarray(PIXELS), "PNG")[:-600], "damaged PNG: "),
    ],
)
def test_what_cannot_be_read_is_named_for_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableImage, match=message):
        decode(data)


@pytest.mark.parametrize("brand", ["heic", "mif1", "avif"])
def test_formats_of_phones_are_known_by_their_content(brand: str) -> None:
    pillow_heif.register_heif_opener()
    smooth = Image.fromarray(PIXELS[:4, :4]).resize((64, 48))
    data = encoded(smooth, "AVIF" if brand == "avif" else "HEIF", quality=95)
    data = data[:8] + brand.encode() + data[12:]
    pixels = decode(data)
    assert open_header(data).format == ("AVIF" if brand == "avif" else "HEIF")
    assert np.abs(pixels.astype(int) - np.asarray(smooth)).mean() < 4
    np.testing.assert_array_equal(decode(data), pixels)
    for cut in (12, 40, len(data) // 2, len(data) - 3):
        with pytest.raises(UndecodableImage):
            decode(data[:cut])


def test_a_photograph_of_200_megapixels_is_decoded_and_nothing_is_warned_of() -> None:
    image = Image.new("L", (16_320, 12_240), 77)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode(encoded(image, "PNG"))
    assert pixels.shape == (12_240, 16_320, 3)
    assert pixels.min() == pixels.max() == 77


@pytest.mark.parametrize("format_", ["PNG", "GIF", "TIFF"])
def test_a_bomb_is_refused_by_its_header(format_: str) -> None:
    data = encoded(Image.new("1", (32_000, 16_000)), format_)
    assert len(data) < 70_000_000
    with pytest.raises(UndecodableImage, match=r"32000 x 16000 pixels, more than"):
        decode(data)


def test_a_jpeg_that_only_claims_to_be_huge_is_refused_before_memory_is_asked_for() -> None:
    start = JPEG.index(b"\xff\xc0") + 5  # height and width of the frame header
    huge = JPEG[:start] + (65500).to_bytes(2, "big") * 2 + JPEG[start + 4 :]
    with pytest.raises(UndecodableImage, match=r"65500 x 65500 pixels, more than 268,435,456"):
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
    with pytest.raises(UndecodableImage, match="starts with b'not an image'"):
        open_header(b"not an image")


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
