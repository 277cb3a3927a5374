"""The attention of a few images on one sheet, a row each: how it looks at a step of the training."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from sslkit.plots.attention.maps import HeadMaps, head_tiles, heat_tile
from sslkit.plots.sheet import Tile, compose, save_sheet
from sslkit.probes.inspect.attention_maps import AttentionReader, read_images


def draw_grid(images: Iterable[tuple[str, Tensor]], reader: AttentionReader, path: Path, alt: str) -> None:
    """Write a PNG: of each image the photo, the mean of the heads, and every head.

    Args:
        images: named, (3, H, W) uint8 of any size.
        reader: of the encoder.
        path: of the PNG.
        alt: its text alternative.
    """
    rows = []
    for seen in read_images(images, reader):
        drawn = HeadMaps(seen.name, seen.image, seen.main.maps)
        rows.append(
            [Tile(seen.name, drawn.photo()), heat_tile("mean", drawn.mean, drawn.tile_size), *head_tiles(drawn)]
        )
    save_sheet(compose(rows), path, alt)
