"""AdamW: Adam with weight decay apart from the gradient (arXiv:1711.05101)."""

from typing import Any

import torch

from sslkit.optimizers.base import Optimizer
from sslkit.recipe.sections import Share


class Adamw(Optimizer):
    """The usual choice for ViTs."""

    name: str = "adamw"
    betas: tuple[Share, Share] = (0.9, 0.999)  # of the running means of the gradient and of its square

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """See the base class."""
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, fused=True)
