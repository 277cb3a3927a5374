"""Pictures side by side with a title above each: a contact sheet, made with PIL alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from sslkit.files import atomic

PAPER, INK = (255, 255, 255), (32, 32, 36)
GAP, TITLE = 10, 20  # pixels
TITLE_SIZE = 13  # pixels, height of the letters' box
LINE = 18  # pixels from one line of a legend to the next
FONT = ImageFont.load_default(TITLE_SIZE)


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        title: a short line above the picture; may be empty.
        picture: RGB, at the size in pixels at which it is drawn.
        steps: (h, w) uint8, the percent from which a patch is shown; only for pages on which the reader sets it.
        over_photo: with ``steps``: show patches of the photo, rather than white on black.
    """

    title: str
    picture: Image.Image
    steps: Tensor | None = None
    over_photo: bool = False


def key_tile(key: Sequence[tuple[str, str]]) -> Tile:
    """A list of names and their colours, as a picture for a sheet."""
    width = max(text_width(name) for name, _ in key) + TITLE + GAP
    picture = Image.new("RGB", (width, TITLE * len(key)), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, (name, colour) in enumerate(key):
        top = row * TITLE
        draw.rectangle([0, top + 3, TITLE_SIZE, top + 3 + TITLE_SIZE], fill=colour)
        draw.text((TITLE, top + 2), name, INK, FONT)
    return Tile("patches of each", picture)


def heading_tile(text: str) -> Tile:
    """A heading above a group of pictures, for a separate row."""
    return Tile(text, Image.new("RGB", (1, 1), PAPER))


def compose(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """A sheet of tiles, row by row, on white; each row is as tall as its tallest tile."""
    rows = [row for row in rows if row]
    titled = [any(tile.title for tile in row) for row in rows]
    heights = [max(t.picture.height for t in row) + TITLE * has for row, has in zip(rows, titled, strict=True)]
    widths = [[max(t.picture.width, text_width(t.title)) for t in row] for row in rows]
    total = max(sum(w) + GAP * (len(w) + 1) for w in widths)
    sheet = Image.new("RGB", (total, sum(heights) + GAP * (len(rows) + 1)), PAPER)
    draw, top = ImageDraw.Draw(sheet), GAP
    for row, has_title, height, row_widths in zip(rows, titled, heights, widths, strict=True):
        left = GAP
        for tile, width in zip(row, row_widths, strict=True):
            draw.text((left, top), tile.title, INK, FONT)
            sheet.paste(tile.picture, (left, top + TITLE * has_title))
            left += width + GAP
        top += height + GAP
    return sheet


def with_legend(sheet: Image.Image, lines: Iterable[str]) -> Image.Image:
    """A sheet with lines of text below it, wrapped to its width."""
    broken = [part for line in lines for part in wrapped(line, sheet.width - 2 * GAP)]
    paper = Image.new("RGB", (sheet.width, sheet.height + LINE * len(broken) + GAP), PAPER)
    paper.paste(sheet)
    draw = ImageDraw.Draw(paper)
    for number, line in enumerate(broken):
        draw.text((GAP, sheet.height + LINE * number), line, INK, FONT)
    return paper


def wrapped(text: str, width: int) -> list[str]:
    """``text`` broken between words into lines of at most ``width`` pixels; a longer word gets its own line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and FONT.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def shortened(text: str, width: int) -> str:
    """``text``, cut so that it is at most ``width`` pixels wide as a title."""
    while FONT.getlength(text) > width and len(text) > 1:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def text_width(text: str) -> int:
    """The width of a title in pixels."""
    return int(FONT.getlength(text)) + 1 if text else 0


def save_sheet(sheet: Image.Image, path: Path, alt: str = "") -> None:
    """Write a PNG, whole or not at all, with its text alternative, if any, as the file's ``Description``."""
    info = PngInfo()
    if alt:
        info.add_itxt("Description", alt)
    with atomic(path) as handle:
        sheet.save(handle, "PNG", pnginfo=info)
