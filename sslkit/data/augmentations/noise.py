"""Gaussian noise, on the colours as the older augmentations leave them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from sslkit.data.augmentations.base import Photometric, change
from sslkit.errors import UsageError
from sslkit.recipe.sections import Probability, Range


class Noise(Photometric):
    """Adds noise of each image's own sigma."""

    order = 60
    numbers = 3
    columns = 2

    class Config(Photometric.Config):
        """A probability, and the range of sigma."""

        noise: Probability = 0.0
        noise_sigma: Range = (0.02, 0.1)  # of pixels in [0, 1]

        @model_validator(mode="after")
        def _sigma_in_order(self) -> "Noise.Config":
            low, high = self.noise_sigma
            if not 0 < low <= high:
                raise UsageError(f"views.augment.noise_sigma {[low, high]} must be two rising positive numbers")
            return self

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """Sigma, and a seed below 2**24, which float32 holds exactly."""
        low, high = self.keys.noise_sigma
        return np.where(on, low + (high - low) * u[0], 0), np.floor(u[1] * 2**24)

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Add noise to some images."""
        change(images, draws[:, 0] > 0, noise_, *draws.T)


def noise_(x: Tensor, sigma: Tensor, seed: Tensor) -> None:
    """Add noise to (n, C, H, W) in place: a pure function of the image's seed and of the pixel's place.

    Neither the batch nor the kind of device changes it. Words of 32 bits become pairs of normal numbers by the
    transform of Box and Muller, none beyond 4.8 sigma.

    Args:
        x: images in [0, 1].
        sigma: (n, 1, 1, 1).
        seed: (n, 1, 1, 1) whole numbers below 2**24.
    """
    values = x[0].numel()
    at = torch.arange(-(-values // 2), device=x.device)
    words = _pcg(_pcg(seed.flatten(1).to(torch.int64)) + at)  # (n, half of the values)
    radius = (words >> 16).float().add_(1).mul_(2**-16).log_().mul_(-2).sqrt_()
    angle = (words & 0xFFFF).float().mul_(2 * math.pi / 2**16)
    noise = torch.cat([angle.cos() * radius, angle.sin_() * radius], 1)[:, :values]
    x.addcmul_(noise.view_as(x), sigma).clamp_(0, 1)


def _pcg(x: Tensor) -> Tensor:
    """PCG as a hash (Jarzynski and Olano, JCGT 9(3), 2020): int64 to 32 well-mixed bits, in int64 without overflow."""
    state = (x & 0xFFFFFFFF).mul_(747796405).add_(2891336453).bitwise_and_(0xFFFFFFFF)
    word = (state >> (state >> 28).add_(4)).bitwise_xor_(state).mul_(277803737).bitwise_and_(0xFFFFFFFF)
    return (word >> 22).bitwise_xor_(word)
