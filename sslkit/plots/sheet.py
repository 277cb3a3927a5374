"""Pictures side by side with a title above each: a contact sheet, made with PIL alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK = (255, 255, 255), (32, 32, 36)
GAP, TITLE = 10, 20  # pixels
TITLE_SIZE = 13  # pixels, height of the letters' box
LINE = 18  # pixels from one line of a legend to the next


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        title: a short line above the picture; may be empty.
        picture: RGB, at the size in pixels it is drawn at.
        steps: (h, w) uint8 from which percent on a patch is shown, where a page may let its reader choose that percent.
        over_photo: with ``steps``: whether patches are shown of the photo, or white on black.
    """

    title: str
    picture: Image.Image
    steps: Tensor | None = None
    over_photo: bool = False


def key_tile(key: Sequence[tuple[str, str]]) -> Tile:
    """Names and their colours below each other, as a picture for a sheet."""
    font = ImageFont.load_default(TITLE_SIZE)
    width = max(_length(font, name) for name, _ in key) + TITLE + GAP
    picture = Image.new("RGB", (width, TITLE * len(key)), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, (name, colour) in enumerate(key):
        top = row * TITLE
        draw.rectangle([0, top + 3, TITLE_SIZE, top + 3 + TITLE_SIZE], fill=colour)
        draw.text((TITLE, top + 2), name, INK, font)
    return Tile("patches of each", picture)


def heading_tile(text: str) -> Tile:
    """A line above a group of pictures, for a row of its own."""
    return Tile(text, Image.new("RGB", (1, 1), PAPER))


def compose(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """A sheet of tiles, row by row, on white; each row is as tall as its tallest tile."""
    rows = [row for row in rows if row]
    titled = [any(tile.title for tile in row) for row in rows]
    heights = [max(t.picture.height for t in row) + TITLE * has for row, has in zip(rows, titled, strict=True)]
    font = ImageFont.load_default(TITLE_SIZE)
    widths = [[max(t.picture.width, _length(font, t.title)) for t in row] for row in rows]
    total = max(sum(w) + GAP * (len(w) + 1) for w in widths)
    sheet = Image.new("RGB", (total, sum(heights) + GAP * (len(rows) + 1)), PAPER)
    draw, top = ImageDraw.Draw(sheet), GAP
    for row, has_title, height, row_widths in zip(rows, titled, heights, widths, strict=True):
        left = GAP
        for tile, width in zip(row, row_widths, strict=True):
            draw.text((left, top), tile.title, INK, font)
            sheet.paste(tile.picture, (left, top + TITLE * has_title))
            left += width + GAP
        top += height + GAP
    return sheet


def with_legend(sheet: Image.Image, lines: Iterable[str]) -> Image.Image:
    """A sheet with lines of text below it, broken between words where they are wider than the sheet."""
    broken = [part for line in lines for part in wrapped(line, sheet.width - 2 * GAP)]
    paper = Image.new("RGB", (sheet.width, sheet.height + LINE * len(broken) + GAP), PAPER)
    paper.paste(sheet)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(TITLE_SIZE)
    for number, line in enumerate(broken):
        draw.text((GAP, sheet.height + LINE * number), line, INK, font)
    return paper


def wrapped(text: str, width: int) -> list[str]:
    """``text`` broken between words into lines of at most ``width`` pixels; a longer word has a line of its own."""
    font, lines = ImageFont.load_default(TITLE_SIZE), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(text: str, width: int) -> str:
    """``text``, cut so that it is at most ``width`` pixels wide as a title."""
    font = ImageFont.load_default(TITLE_SIZE)
    while font.getlength(text) > width and len(text) > 1:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def _length(font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", text: str) -> int:
    return int(font.getlength(text)) + 1 if text else 0
