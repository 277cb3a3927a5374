"""Hide tokens at random, more often where the teacher attends: attention as probabilities.

Tokens are drawn one after another without replacement, each with a probability proportional to a ** power of those that
are left, where a is the teacher's attention from CLS as in AttMask (arXiv:2203.12719). Adding Gumbel noise to
power * ln a and taking the largest is the same draw (arXiv:1903.06059). A power of 0 masks at random, a large one hides
what AttMask-High hides. In between, attention that is still even masks nearly at random, and the masks follow it only
as it comes to point at something: a curriculum without a schedule.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from sslkit.masks.base import Crops, Masking, Masks, first, rank


class AttentionSampledMasking(Masking):
    """Draws tokens with probabilities from the teacher's attention."""

    ratio_per: Literal["crop", "step"] = "step"
    power: float = Field(default=4.0, ge=0)  # 0: random; the larger, the closer to the most attended tokens

    needs_attention = True

    def choose(self, crops: Crops) -> Masks:
        """Exactly ``counts`` tokens of each crop; see the base class."""
        attention = crops.attention
        assert attention is not None
        noise = np.stack([generator.gumbel(size=crops.patches) for generator in crops.generators])
        gumbel = torch.from_numpy(noise.astype(np.float32)).to(attention.device, non_blocking=True)
        ranks = rank(self.power * attention.float().clamp_min(1e-20).log() + gumbel)
        return Masks(first(ranks, crops.counts), crops.counts)
