"""Rectangular blocks of tokens, as in BEiT (arXiv:2106.08254, algorithm 1) and iBOT (arXiv:2111.07832).

Blocks of random area and aspect are laid at random places until the wanted number of tokens is hidden. The last
block is rarely of just the right size, so a crop may hide fewer tokens than asked for, never more.
"""

import math

import numpy as np
import torch
from pydantic import Field

from sslkit.masks.base import Crops, Masking, Masks

ATTEMPTS = 10  # places tried for one block before the crop is left as it is


class BlockMasking(Masking):
    """Hides rectangles."""

    min_share: float = Field(default=1 / 12, gt=0, le=1)  # of the patches, smallest block: BEiT's 16 of 14 x 14
    min_aspect: float = Field(default=0.3, gt=0, le=1)  # height / width is log-uniform between this and its inverse

    def choose(self, crops: Crops) -> Masks:
        """At most ``counts`` tokens of each crop; see the base class."""
        pairs = zip(crops.counts, crops.generators, strict=True)
        masks = np.stack([self._blocks(int(count), crops.grid, generator) for count, generator in pairs])
        masks = masks.reshape(len(masks), -1)
        return Masks(torch.from_numpy(masks), masks.sum(1))

    def _blocks(self, count: int, grid: tuple[int, int], crop: np.random.Generator) -> np.ndarray:
        mask = np.zeros(grid, dtype=bool)
        while (missing := count - int(mask.sum())) > 0:
            if not any(self._lay_block(mask, missing, crop) for _ in range(ATTEMPTS)):
                break
        return mask

    def _lay_block(self, mask: np.ndarray, missing: int, crop: np.random.Generator) -> bool:
        """Try one block that hides at least one and at most ``missing`` new tokens; whether it was laid."""
        rows, columns = mask.shape
        area = crop.uniform(min(self.min_share * mask.size, missing), missing)
        aspect = math.exp(crop.uniform(math.log(self.min_aspect), -math.log(self.min_aspect)))
        height = max(1, round(math.sqrt(area * aspect)))
        width = max(1, round(math.sqrt(area / aspect)))
        if height > rows or width > columns:
            return False
        top, left = crop.integers(rows - height + 1), crop.integers(columns - width + 1)
        block = mask[top : top + height, left : left + width]
        new = block.size - int(block.sum())
        if not 0 < new <= missing:
            return False
        block[:] = True
        return True
