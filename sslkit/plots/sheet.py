"""Pictures side by side with a title above each: a contact sheet, made with PIL alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

PAPER, INK = (255, 255, 255), (32, 32, 36)
GAP, TITLE = 10, 20  # pixels
TITLE_SIZE = 13  # pixels, height of the letters' box


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


def to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) uint8 -> an RGB picture."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))


def fit(picture: Image.Image, width: int, height: int, nearest: bool = False) -> Image.Image:
    """``picture`` at exactly this size in pixels; ``nearest`` keeps the squares of a map as squares."""
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    return picture.resize((width, height), how)


def bounded(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width, in the same proportion, whose longer side is ``longest`` pixels.

    >>> bounded(100, 200, 50)
    (25, 50)
    """
    scale = longest / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


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


def _length(font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", text: str) -> int:
    return int(font.getlength(text)) + 1 if text else 0
