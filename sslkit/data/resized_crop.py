"""Random resized crops: where their boxes lie, and how they are cut."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

TRIES = 10  # boxes drawn before a crop falls back on the whole image, cut to an allowed aspect
NUMBERS = 2 * TRIES + 2  # uniform numbers that a box uses: areas, aspects and a position


def boxes_from(
    u: np.ndarray, height: int | np.ndarray, width: int | np.ndarray, scale: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """Random resized crops (arXiv:1409.4842): area uniform, aspect log-uniform, place uniform.

    Args:
        u: (V, NUMBERS) uniform numbers in [0, 1).
        height: of the image, or (V,) of each view's image; pixels.
        width: likewise.
        scale: (V, 2) share of the area.
        ratio: (V, 2) width / height.

    Returns:
        (V, 4) int: top, left, height, width. The first of TRIES boxes that fits; else, or when the whole area is asked
        for, the largest centred one.
    """
    height, width = (np.broadcast_to(side, len(u))[:, None] for side in (height, width))
    area = height * width * (scale[:, :1] + (scale[:, 1:] - scale[:, :1]) * u[:, :TRIES])
    low, high = np.log(ratio[:, :1]), np.log(ratio[:, 1:])
    aspect = np.exp(low + (high - low) * u[:, TRIES : 2 * TRIES])
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    # A square of a whole 100 x 101 image would fit by rounding, in one of two places.
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height) & (scale[:, :1] < 1)
    first = fits.argmax(1)
    rows, height, width = np.arange(len(u)), height[:, 0], width[:, 0]
    w, h = widths[rows, first], heights[rows, first]
    top = np.floor(u[:, 2 * TRIES] * (height - h + 1))
    left = np.floor(u[:, 2 * TRIES + 1] * (width - w + 1))
    boxes = np.stack([top, left, h, w], 1).astype(np.int64)
    for view in np.flatnonzero(~fits.any(1)):
        rows, columns = int(height[view]), int(width[view])
        shape = columns / rows
        w0 = columns if shape <= ratio[view, 1] else max(1, round(rows * ratio[view, 1]))
        h0 = rows if shape >= ratio[view, 0] else max(1, round(columns / ratio[view, 0]))
        boxes[view] = ((rows - h0) // 2, (columns - w0) // 2, h0, w0)
    return boxes


def cut(image: Tensor, box: Sequence[int], size: int, mode: Literal["bicubic", "bilinear"] = "bicubic") -> Tensor:
    """Crop and resize to (C, size, size), with antialiased weights in uint8.

    Args:
        image: (C, H, W) uint8.
        box: top, left, height, width.
        size: pixels.
        mode: of the weights.
    """
    top, left, height, width = box
    crop = image[:, top : top + height, left : left + width]
    if (height, width) != (size, size):
        crop = F.interpolate(crop[None], (size, size), mode=mode, antialias=True, align_corners=False)[0]
    return crop
