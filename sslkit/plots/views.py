"""A picture of what the model sees: one row per image, and what is hidden of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sslkit.data.normalise import unnormalise
from sslkit.files import atomic
from sslkit.plots.pictures import bounded, fit, shade, to_picture
from sslkit.plots.sheet import INK, PAPER, TITLE_SIZE, Tile, compose, wrapped

LARGE, SMALL = 128, 72  # pixels: a crop of the largest group, and the least that any crop is drawn at
CAPTION, LINE = 130, 17  # pixels: the width of a caption and the height of its lines
FONT = ImageFont.load_default(TITLE_SIZE)


def draw_views(
    pictures: Mapping[str, Tensor],
    masks: Tensor | None,
    grid: tuple[int, int] | None,
    captions: Sequence[str],
    path: Path,
    rows: int | None = None,
) -> None:
    """Write a PNG with one image per row: its caption, its first pictures, those masked, then the other pictures.

    Args:
        pictures: by title (V, B, 3, S, S) float, normalised; views are numbered where there are several.
        masks: (V, B, N) bool for the first of ``pictures``, True = hidden; None draws no masked ones.
        grid: rows and columns of patches, N of them; needed with ``masks``.
        captions: a line for each image, or none at all.
        path: where the PNG goes, whole or not at all.
        rows: at most this many images of the batch; None for all.
    """
    first = next(iter(pictures.values()))
    largest = max(max(crops.shape[-2:]) for crops in pictures.values())
    sheet: list[list[Tile]] = []
    for index in range(first.shape[1] if rows is None else min(rows, first.shape[1])):
        tiles = [Tile("", _caption(captions[index]))] if captions else []
        for title, crops in pictures.items():
            side = max(LARGE * max(crops.shape[-2:]) // largest, SMALL)
            height, width = bounded(crops.shape[-2], crops.shape[-1], side)
            views = [fit(to_picture(crop), width, height) for crop in unnormalise(crops[:, index])]
            tiles += _numbered(title, views)
            if crops is first and masks is not None and grid is not None:
                hidden = masks[:, index].view(-1, *grid)
                tiles += _numbered("masked", [shade(v, h, strength=1.0) for v, h in zip(views, hidden, strict=True)])
        # Titles once, above the first image.
        sheet.append([Tile(tile.title if index == 0 else "", tile.picture) for tile in tiles])
    with atomic(path) as handle:
        compose(sheet).save(handle, "PNG")


def _numbered(title: str, views: Sequence[Image.Image]) -> list[Tile]:
    """Views under their title, each at least as wide as it, so that rows without titles keep the columns."""
    titles = [f"{title} {number}" for number in range(1, len(views) + 1)] if len(views) > 1 else [title]
    tiles = []
    for text, view in zip(titles, views, strict=True):
        paper = Image.new("RGB", (max(view.width, _length(text)), view.height), PAPER)
        paper.paste(view)
        tiles.append(Tile(text, paper))
    return tiles


def _caption(text: str) -> Image.Image:
    """A caption in lines of at most ``CAPTION`` pixels."""
    lines = wrapped(text, CAPTION)
    paper = Image.new("RGB", (CAPTION, LINE * len(lines)), PAPER)
    ImageDraw.Draw(paper).multiline_text((0, 0), "\n".join(lines), INK, FONT, spacing=LINE - TITLE_SIZE)
    return paper


def _length(text: str) -> int:
    return int(FONT.getlength(text)) + 1
