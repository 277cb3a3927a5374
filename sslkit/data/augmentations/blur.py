"""Gaussian blur."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.augmentations.base import Photometric, change
from sslkit.recipe.sections import Positive, Probability

TINY = 1e-6  # pixels: the sigma of no blur
LARGEST_BLOCK = 32  # pixels: smaller ones are copied more often, larger ones need more products


class Blur(Photometric):
    """Blurs each image by its own sigma. The default probabilities are DINO's (arXiv:2104.14294)."""

    order = 30
    numbers = 2
    shared = 8

    class Config(Photometric.Config):
        """A probability, and the range of sigma."""

        blur: Probability = Field(default=[1.0, 0.1, 0.5])
        blur_sigma: Positive = (0.1, 2.0)  # pixels

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """Sigma in pixels."""
        low, high = self.keys.blur_sigma
        return (np.where(on, low + (high - low) * u[0], 0),)

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Blur some images."""
        sigma = draws[:, :1]
        # Mirrored at the border, a side is not wide enough for more.
        radius = min(math.ceil(3 * sigma.max(initial=0)), images.shape[-1] - 1, images.shape[-2] - 1)
        at = np.arange(radius + 2, dtype=np.float32)
        # A narrower kernel's taps beyond its own three sigma are 0, whatever its neighbours are; so is the very last.
        taps = np.exp(-0.5 * (at / np.maximum(sigma, TINY)) ** 2) * (at <= np.minimum(np.ceil(3 * sigma), radius))
        taps /= 2 * taps.sum(1, keepdims=True) - taps[:, :1]
        change(images, sigma[:, 0] > 0, blur_, taps)


def blur_(x: Tensor, taps: Tensor) -> None:
    """Blur (n, C, H, W) in place, mirrored at the border.

    Each row is cut into blocks, and a product with a band of taps makes a block of the result from one that is wider by
    the radius on both sides; then each column likewise. A CPU takes several times as long for a depthwise convolution.
    A GPU whose products are TF32 is a fraction of a level off.

    Args:
        x: images, contiguous.
        taps: (n, radius + 2, 1, 1) weights by distance from a pixel, the last of them 0.
    """
    n, _, height, width = x.shape
    taps = taps[:, :, 0, 0]
    radius = taps.shape[1] - 2
    rows, columns = taps[:, _distances(width, radius, x.device)], taps[:, _distances(height, radius, x.device)]
    blocks = F.pad(x, (radius, radius, 0, 0), mode="reflect").unfold(-1, *rows.shape[1:])
    torch.matmul(blocks.reshape(n, -1, rows.shape[1]), rows, out=x.view(n, -1, rows.shape[2]))
    blocks = F.pad(x, (0, 0, radius, radius), mode="reflect").unfold(-2, *columns.shape[1:]).mT
    blocks = blocks.reshape(n, -1, columns.shape[1], width)
    torch.matmul(columns.mT[:, None], blocks, out=x.view(n, -1, columns.shape[2], width))


@lru_cache
def _distances(side: int, radius: int, device: torch.device) -> Tensor:
    """(block + 2 radius, block) int64 on the device: pixels between those around a block and those in it, cut.

    Blocks of at most LARGEST_BLOCK pixels fill a side.
    """
    block = max(size for size in range(1, LARGEST_BLOCK + 1) if side % size == 0)
    around, inside = np.arange(-radius, block + radius), np.arange(block)
    with torch.inference_mode(False):
        return torch.from_numpy(np.minimum(abs(around[:, None] - inside), radius + 1)).to(device, non_blocking=True)
