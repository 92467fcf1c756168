"""Images and captions -> one sheet to look at."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 8  # pixels around every image
LINE = 16  # pixels of one line of a caption
FONT_SIZE = 13


def contact_sheet(
    title: str, images: Sequence[Image.Image], captions: Sequence[str], columns: int, tile: int
) -> Image.Image:
    """Return the RGB `images` in rows of `columns` with their captions below.

    An image keeps its proportions in a square of `tile` pixels and is never enlarged, so that
    what the detector saw is what is shown. A caption may have several lines; what does not fit
    the width of the tile is cut off.
    """
    caption_height = LINE * max((caption.count("\n") + 1 for caption in captions), default=0)
    width, height = tile + GAP, tile + caption_height + GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width + GAP, LINE + rows * height + 2 * GAP), "white")
    _write(sheet, title, GAP, GAP)
    for position, (image, caption) in enumerate(zip(images, captions, strict=True)):
        framed = Image.new("RGB", (tile, tile + caption_height), "white")
        picture = image.copy()
        picture.thumbnail((tile, tile))
        framed.paste(picture, ((tile - picture.width) // 2, (tile - picture.height) // 2))
        _write(framed, caption, 0, tile + 1)
        row, column = divmod(position, columns)
        sheet.paste(framed, (GAP + column * width, LINE + 2 * GAP + row * height))
    return sheet


def _write(canvas: Image.Image, text: str, left: int, top: int) -> None:
    font = ImageFont.load_default(FONT_SIZE)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(text.split("\n")):
        draw.text((left, top + number * LINE), line, fill="black", font=font)
