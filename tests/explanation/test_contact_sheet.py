import numpy as np
from PIL import Image

from src.explanation.contact_sheet import GAP, contact_sheet


def test_images_are_shown_pixel_by_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    sheet = np.asarray(
        contact_sheet("title", [Image.fromarray(image)], ["caption"], columns=1, tile=40)
    )

    windows = np.lib.stride_tricks.sliding_window_view(sheet, image.shape)[:, :, 0]
    assert (windows == image).all(axis=(2, 3, 4)).sum() == 1


def test_large_images_keep_their_proportions() -> None:
    black = Image.new("RGB", (200, 100))
    sheet = np.asarray(contact_sheet("", [black], [""], columns=1, tile=50))

    rows, columns = np.nonzero((sheet == 0).all(axis=2))
    assert [int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1] == [25, 50]


def test_rows_are_filled_from_the_left() -> None:
    black = Image.new("RGB", (20, 20))
    sheet = np.asarray(contact_sheet("", [black] * 3, [""] * 3, columns=2, tile=20))

    left, right = sheet[:, : GAP + 20], sheet[:, GAP + 20 :]
    assert (left == 0).all(axis=2).sum() == 2 * 400
    assert (right == 0).all(axis=2).sum() == 400


def test_a_sheet_of_nothing_still_says_so() -> None:
    sheet = np.asarray(contact_sheet("no false positives", [], [], columns=6, tile=200))

    assert sheet.min() < 100
