"""Solarization."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from sslkit.data.augmentations.base import Photometric, change
from sslkit.recipe.sections import Probability


class Solarize(Photometric):
    """Inverts what is brighter than half."""

    order = 40
    shared = 10

    class Config(Photometric.Config):
        """A probability."""

        solarize: Probability = Field(default=[0.0, 0.2, 0.0])

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Solarize some images."""
        change(images, draws[:, 0] > 0, solarize_)


def solarize_(x: Tensor) -> None:
    """(n, C, H, W) in [0, 1], in place."""
    x.lerp_(1 - x, torch.ge(x, 128 / 255, out=torch.empty_like(x)))  # where() is slow on a CPU
