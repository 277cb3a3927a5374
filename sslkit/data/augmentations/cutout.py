"""Cutout (arXiv:1708.04552): a square of each crop is hidden.

In the paper the centre of the square is uniform and a part of it may lie outside; here all of it lies in the crop, so
that the hidden area is the one drawn.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from sslkit.data.augmentations.base import Photometric, change
from sslkit.errors import UsageError
from sslkit.recipe.sections import Probability, Range


class Cutout(Photometric):
    """Fills a square with the mean, which is 0 in normalised images: no noise and no edges are left in it."""

    order = 80
    numbers = 4
    columns = 3
    after_normalising = True

    class Config(Photometric.Config):
        """A probability, and the range of the hidden area."""

        cutout: Probability = 0.0
        cutout_area: Range = (0.05, 0.25)  # share of the crop's area

        @model_validator(mode="after")
        def _area_in_order(self) -> "Cutout.Config":
            low, high = self.cutout_area
            if not 0 < low <= high <= 1:
                raise UsageError(
                    f"views.augment.cutout_area {[low, high]} must be two rising shares of the area in (0, 1]"
                )
            return self

    def draw(self, on: np.ndarray, u: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        """Side, top and left, in pixels."""
        low, high = self.keys.cutout_area
        side = np.rint(np.sqrt(low + (high - low) * u[0]) * sizes).clip(1)
        return (np.where(on, side, 0), *np.floor(u[1:] * (sizes - side + 1)))

    @staticmethod
    def apply(images: Tensor, draws: np.ndarray) -> None:
        """Hide a square of some images."""
        change(images, draws[:, 0] > 0, cutout_, *draws.T)


def cutout_(x: Tensor, side: Tensor, top: Tensor, left: Tensor) -> None:
    """Set a square of each image to 0: (n, C, H, W) in place, the rest (n, 1, 1, 1) in pixels."""
    rows = torch.arange(x.shape[-2], device=x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    x.masked_fill_(inside, 0)
