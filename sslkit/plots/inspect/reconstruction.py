"""Reconstructions of a masked autoencoder: masked input, reconstruction and original, side by side.

The picture of MAE's paper (arXiv:2111.06377, figure 2).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sslkit.files import atomic
from sslkit.plots.pictures import fit, shade, to_picture
from sslkit.plots.sheet import Tile, compose, shortened, with_legend
from sslkit.probes.inspect.reconstruction import Reconstructions

TILE = 160  # pixels, the side of a picture on the sheet
ACROSS = 2  # images in a row of the sheet, three pictures each


def draw_reconstructions(
    names: Sequence[str], painted: Reconstructions, grid: tuple[int, int], legend: Sequence[str], path: Path
) -> None:
    """Write a PNG: for each image what the model sees, its reconstruction, and the original.

    Args:
        names: B titles.
        painted: B reconstructions.
        grid: rows and columns of patches.
        legend: lines below the pictures.
        path: where the PNG goes, whole or not at all.
    """
    rows: list[list[Tile]] = []
    for index, name in enumerate(names):
        if index % ACROSS == 0:
            rows.append([])
        rows[-1] += _tiles(name, painted, index, grid)
    with atomic(path) as handle:
        with_legend(compose(rows), legend).save(handle, "PNG")


def _tiles(name: str, painted: Reconstructions, index: int, grid: tuple[int, int]) -> list[Tile]:
    original, picture = (_enlarged(to_picture(images[index])) for images in (painted.originals, painted.pictures))
    hidden = painted.masks[index].view(grid)
    return [
        Tile(f"{100 * hidden.float().mean():.0f} % removed", shade(original, hidden, strength=1.0)),
        Tile(f"painted, error {painted.errors[index]:.2f}", picture),
        Tile(shortened(name, TILE), original),
    ]


def _enlarged(picture: Image.Image) -> Image.Image:
    """The picture at tile size; a small one in whole squares, so that no colours blend across a patch's border."""
    return fit(picture, TILE, TILE, nearest=picture.width <= TILE // 2)


def as_arrays(painted: Reconstructions) -> dict[str, Any]:
    """``original`` and ``painted`` (B, 3, S, S) uint8, ``mask`` (B, N) bool, ``error`` (B,) float64."""
    return {
        "original": painted.originals.numpy(),
        "painted": painted.pictures.numpy(),
        "mask": painted.masks.numpy(),
        "error": painted.errors,
    }
