"""Uniformly random tokens, without regard to where they are or what they show."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sslkit.masks.base import Masking, Masks


class RandomMasking(Masking):
    """Each set of the given size is equally likely."""

    def choose(
        self,
        counts: np.ndarray,
        grid: tuple[int, int],
        crops: Sequence[np.random.Generator],
        shared: np.random.Generator,
        attention: Tensor | None,
    ) -> Masks:
        """Exactly ``counts`` tokens of each crop; see the base class."""
        mask = np.zeros((len(crops), grid[0] * grid[1]), dtype=bool)
        for row, count, crop in zip(mask, counts, crops, strict=True):
            row[crop.permutation(row.size)[:count]] = True
        return Masks(torch.from_numpy(mask), counts)
