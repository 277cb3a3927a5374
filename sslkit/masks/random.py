"""Uniformly random tokens, without regard to where they are or what they show."""

import numpy as np
import torch

from sslkit.masks.base import Crops, Masking, Masks


class RandomMasking(Masking):
    """Each set of the given size is equally likely."""

    def choose(self, crops: Crops) -> Masks:
        """Exactly ``counts`` tokens of each crop; see the base class."""
        mask = np.zeros((len(crops.counts), crops.patches), dtype=bool)
        for row, count, generator in zip(mask, crops.counts, crops.generators, strict=True):
            row[generator.permutation(row.size)[:count]] = True
        return Masks(torch.from_numpy(mask), crops.counts)
