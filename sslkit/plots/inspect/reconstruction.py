"""Masked input, reconstruction and original of a masked autoencoder, side by side (arXiv:2111.06377, figure 2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sslkit.plots.pictures import enlarged, shade, to_picture
from sslkit.plots.sheet import Tile, compose, save_sheet, shortened, with_legend
from sslkit.probes.inspect.reconstruction import Reconstructions

TILE = 160  # pixels, the side of a picture on the sheet
ACROSS = 6  # pictures in a row of the sheet: two images, three pictures each


def draw_reconstructions(
    names: Sequence[str], painted: Reconstructions, grid: tuple[int, int], legend: Sequence[str], path: Path
) -> None:
    """Write a PNG: for each of B named images what the model sees, its reconstruction, and the original.

    ``grid`` is the number of rows and columns of patches; the lines of ``legend`` go below the pictures.
    """
    tiles: list[Tile] = []
    for index, name in enumerate(names):
        hidden = painted.masks[index].view(grid)
        original, picture = (enlarged(to_picture(i[index]), TILE) for i in (painted.originals, painted.pictures))
        tiles += [
            Tile(f"{100 * hidden.float().mean():.0f} % removed", shade(original, hidden, strength=1.0)),
            Tile(f"painted, error {painted.errors[index]:.2f}", picture),
            Tile(shortened(name, TILE), original),
        ]
    rows = [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
    save_sheet(with_legend(compose(rows), legend), path)


def as_arrays(painted: Reconstructions) -> dict[str, Any]:
    """``original`` and ``painted`` (B, 3, S, S) uint8, ``mask`` (B, N) bool, ``error`` (B,) float64."""
    return {
        "original": painted.originals.numpy(),
        "painted": painted.pictures.numpy(),
        "mask": painted.masks.numpy(),
        "error": painted.errors,
    }
