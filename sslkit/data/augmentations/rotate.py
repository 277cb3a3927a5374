"""Rotation by right angles."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sslkit.data.augmentations.base import Geometric
from sslkit.recipe.sections import Probability


class Rotate(Geometric):
    """Turns the crop counterclockwise by 90, 180 or 270 degrees, each as often."""

    order = 50
    numbers = 2

    class Config(Geometric.Config):
        """A probability."""

        rotate: Probability = 0.0

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """Quarter turns: 1, 2 or 3."""
        return (np.where(on, 1 + np.floor(3 * u[0]), 0),)

    @staticmethod
    def apply(crop: Tensor, value: float) -> Tensor:
        """Turn one crop."""
        return crop.rot90(int(value), (-2, -1))
