"""A picture of what the model sees: the crops after augmentation, and what is masked."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslkit.encoder import IMAGENET_MEAN, IMAGENET_STD
from sslkit.files import atomic
from sslkit.plots.attention import shade
from sslkit.plots.sheet import Tile, bounded, compose, fit, to_picture

LARGE, SMALL = 128, 72  # pixels: a crop of the largest group, and the least that any crop is drawn at


def unnormalise(images: Tensor) -> Tensor:
    """(..., 3, H, W) float, normalised by ImageNet's mean and std -> uint8."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def draw_views(
    groups: Sequence[Tensor], mask: Tensor | None, grid: tuple[int, int] | None, path: Path, rows: int = 6
) -> None:
    """Write a PNG with one image per row: its crops of every group, then the masked ones of the first group.

    Args:
        groups: one tensor (V, B, 3, S, S) per crop size, float, normalised; global crops first.
        mask: (V, B, N) bool for ``groups[0]``, True = replaced by the mask token; None draws no masked crops.
        grid: rows and columns of patches, N of them; needed with ``mask``.
        path: where the PNG goes, whole or not at all.
        rows: at most this many images of the batch.
    """
    largest = max(max(group.shape[-2:]) for group in groups)
    sheet = []
    for index in range(min(rows, groups[0].shape[1])):
        tiles = []
        for number, group in enumerate(groups):
            side = max(LARGE * max(group.shape[-2:]) // largest, SMALL)
            height, width = bounded(group.shape[-2], group.shape[-1], side)
            crops = unnormalise(group[:, index])
            pictures = [fit(to_picture(crop), width, height) for crop in crops]
            kind = "global" if number == 0 else "local"
            tiles += [Tile(f"{kind} {view}", picture) for view, picture in enumerate(pictures, 1)]
            if number == 0 and mask is not None and grid is not None:
                hidden = mask[:, index].view(-1, *grid)
                tiles += [
                    Tile(f"masked {view}", shade(picture, cover, strength=1.0))
                    for view, (picture, cover) in enumerate(zip(pictures, hidden, strict=True), 1)
                ]
        # Titles once, above the first image.
        sheet.append(tiles if index == 0 else [Tile("", tile.picture) for tile in tiles])
    with atomic(path) as handle:
        compose(sheet).save(handle, "PNG")
