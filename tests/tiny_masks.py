"""Tiny photos and masks on disk, for the tests of layouts and encodings."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 12


def photo(path: Path, tint: int = 0) -> None:
    """A photo of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIDE, SIDE), (tint % 256, 90, 30)).save(path)


def mask(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    """A mask of numbers (H, W), by a palette if asked, or of colours (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P")
        image.putpalette([v for i in range(256) for v in (255 - i, i * 7 % 256, i * 31 % 256)])
    image.save(path)


def squares(*values: int, dtype: type = np.uint8, around: int = 0) -> np.ndarray:
    """A mask with a square of 4 x 4 pixels of each value."""
    pixels = np.full((SIDE, SIDE), around, dtype)
    for i, value in enumerate(values):
        top, left = 4 * (i // 3), 4 * (i % 3)
        pixels[top : top + 4, left : left + 4] = value
    return pixels


def coloured(numbers: np.ndarray, colours: list[tuple[int, int, int]]) -> np.ndarray:
    """A mask of numbers in colours."""
    return np.array(colours, np.uint8)[numbers]
