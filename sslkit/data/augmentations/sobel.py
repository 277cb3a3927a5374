"""Gradients in the place of colours, as in deep clustering (arXiv:1807.05520)."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.augmentations.base import Photometric, change, luma
from sslkit.recipe.sections import Probability


class Sobel(Photometric):
    """Puts Sobel gradients, noise included, in the three channels."""

    order = 70
    rgb_only = True

    class Config(Photometric.Config):
        """A probability."""

        sobel: Probability = 0.0

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Replace some images by their gradients."""
        change(images, draws[:, 0] > 0, sobel_)


def sobel_(x: Tensor) -> None:
    """(n, 3, H, W) in [0, 1], in place: luma's gradient to the right, its gradient downwards, and their magnitude.

    Scaled so that every possible value fits into [0, 1]: no gradient is 0.5, 0.5, 0. Mirrored at the border.
    """
    padded = F.pad(luma(x), (1, 1, 1, 1), mode="reflect")
    across = padded[..., 2:] - padded[..., :-2]
    across = across[..., :-2, :] + across[..., 2:, :] + 2 * across[..., 1:-1, :]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = down[..., :-2] + down[..., 2:] + 2 * down[..., 1:-1]
    # Either gradient is at most 4; both together at most 4 and 2 (one side of the window white, and half of the rest).
    x[:, 2:] = torch.hypot(across, down).mul_(1 / math.sqrt(20))
    x[:, :1] = across.mul_(1 / 8).add_(0.5)
    x[:, 1:2] = down.mul_(1 / 8).add_(0.5)
