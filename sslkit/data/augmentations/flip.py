"""Mirror images, left to right."""

from torch import Tensor

from sslkit.data.augmentations.base import Geometric
from sslkit.recipe.sections import Probability


class Flip(Geometric):
    """Mirrors the crop."""

    order = 0
    shared = 0

    class Config(Geometric.Config):
        """A probability."""

        flip: Probability = 0.5

    @staticmethod
    def apply(crop: Tensor, value: float) -> Tensor:
        """Mirror one crop."""
        return crop.flip(-1)
