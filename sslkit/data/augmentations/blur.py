"""Gaussian blur."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from sslkit.data.augmentations.base import Photometric, change
from sslkit.recipe.sections import Positive, Probability


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
        sigma = draws[:, 0]
        change(images, sigma > 0, partial(blur_, widest=float(sigma.max(initial=0))), sigma)


def blur_(x: Tensor, sigma: Tensor, widest: float) -> None:
    """Blur (n, C, H, W) in place, mirrored at the border, cut at three sigma.

    Args:
        x: images.
        sigma: (n, 1, 1, 1) pixels.
        widest: the largest sigma, given on the host so that the device need not be asked.
    """
    # A narrower kernel's taps beyond its own three sigma are 0, whatever its neighbours are.
    radius = min(math.ceil(3 * widest), x.shape[-1] - 1, x.shape[-2] - 1)
    at = torch.arange(radius + 1, device=x.device)
    taps = (-0.5 * (at / sigma) ** 2).exp_() * (at <= (3 * sigma).ceil())  # (n, 1, 1, radius + 1)
    taps /= 2 * taps.sum(-1, keepdim=True) - taps[..., :1]
    pair = torch.empty_like(x)  # one buffer: fresh memory costs a CPU more than the sum that goes into it
    for axis in (-1, -2):
        side = x.shape[axis]
        border = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        padded = F.pad(x, border, mode="reflect")
        # Shifted copies added up: a depthwise convolution of this width takes five times as long on a CPU.
        torch.mul(padded.narrow(axis, radius, side), taps[..., :1], out=x)
        for k in range(1, radius + 1):
            torch.add(padded.narrow(axis, radius - k, side), padded.narrow(axis, radius + k, side), out=pair)
            x.add_(pair.mul_(taps[..., k : k + 1]))
