"""A picture of what the model sees: one row per image, with its crops and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from sslkit.data.normalise import IMAGENET_MEAN, IMAGENET_STD, unnormalise
from sslkit.plots.pictures import bounded, fit, shade, to_picture
from sslkit.plots.sheet import FONT, INK, PAPER, TITLE_SIZE, Tile, compose, save_sheet, text_width, wrapped

LARGE, SMALL = 128, 72  # pixels: a crop of the largest group, and the least that any crop is drawn at
CAPTION, LINE = 130, 17  # pixels: the width of a caption and the height of its lines


def draw_views(
    pictures: Mapping[str, Tensor],
    masks: Tensor | None,
    grid: tuple[int, int] | None,
    captions: Sequence[str],
    path: Path,
    rows: int | None = None,
    statistics: tuple[Sequence[float], Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD),
) -> None:
    """Write a PNG with one image per row: its caption, the first pictures, those masked, then the other pictures.

    Args:
        pictures: by title (V, B, C, S, S) float, normalised; several views are numbered.
        masks: (V, B, N) bool for the first of ``pictures``, True = hidden; None draws no masked pictures.
        grid: rows and columns of the N patches; required with ``masks``.
        captions: one for each image, or none at all.
        path: of the PNG.
        rows: at most this many images of the batch; None for all.
        statistics: mean and standard deviation by which they are normalised.
    """
    first = next(iter(pictures.values()))
    largest = max(max(crops.shape[-2:]) for crops in pictures.values())
    sheet: list[list[Tile]] = []
    for index in range(first.shape[1] if rows is None else min(rows, first.shape[1])):
        tiles = [Tile("", _caption(captions[index]))] if captions else []
        for title, crops in pictures.items():
            side = max(LARGE * max(crops.shape[-2:]) // largest, SMALL)
            height, width = bounded(crops.shape[-2], crops.shape[-1], side)
            views = [fit(to_picture(crop), width, height) for crop in unnormalise(crops[:, index], *statistics)]
            tiles += _numbered(title, views)
            if crops is first and masks is not None and grid is not None:
                hidden = masks[:, index].view(-1, *grid)
                tiles += _numbered("masked", [shade(v, h, strength=1.0) for v, h in zip(views, hidden, strict=True)])
        # Titles once, above the first image.
        sheet.append([Tile(tile.title if index == 0 else "", tile.picture) for tile in tiles])
    save_sheet(compose(sheet), path)


def _numbered(title: str, views: Sequence[Image.Image]) -> list[Tile]:
    """Views, each at least as wide as its title, so that rows without titles are aligned with the first."""
    titles = [f"{title} {number}" for number in range(1, len(views) + 1)] if len(views) > 1 else [title]
    tiles = []
    for text, view in zip(titles, views, strict=True):
        paper = Image.new("RGB", (max(view.width, text_width(text)), view.height), PAPER)
        paper.paste(view)
        tiles.append(Tile(text, paper))
    return tiles


def _caption(text: str) -> Image.Image:
    """A caption in lines of at most ``CAPTION`` pixels."""
    lines = wrapped(text, CAPTION)
    paper = Image.new("RGB", (CAPTION, LINE * len(lines)), PAPER)
    ImageDraw.Draw(paper).multiline_text((0, 0), "\n".join(lines), INK, FONT, spacing=LINE - TITLE_SIZE)
    return paper
