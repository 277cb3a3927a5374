"""Grayscale."""

import numpy as np
from torch import Tensor

from sslkit.data.augmentations.base import Photometric, change, luma
from sslkit.recipe.sections import Probability


class Gray(Photometric):
    """Puts the luma in all three channels."""

    order = 20
    shared = 7
    rgb_only = True

    class Config(Photometric.Config):
        """A probability."""

        gray: Probability = 0.2

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Make some images gray."""
        change(images, draws[:, 0] > 0, grayscale_)


def grayscale_(x: Tensor) -> None:
    """(n, 3, H, W), in place."""
    x.copy_(luma(x))
