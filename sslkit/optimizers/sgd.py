"""Stochastic gradient descent with momentum (arXiv:1706.02677, section 3), what most papers train ResNets with.

    v <- momentum x v + (gradient + weight decay x w),    w <- w - lr x v

Its learning rates are far above AdamW's: 0.05 or so per 256 images.
"""

from typing import Any

import torch
from pydantic import model_validator

from sslkit.errors import UsageError
from sslkit.optimizers.base import Optimizer
from sslkit.recipe.sections import Share


class Sgd(Optimizer):
    """Torch's, fused."""

    name: str = "sgd"
    momentum: Share = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Sgd":
        if self.nesterov and not self.momentum:
            raise UsageError("optim.nesterov requires a momentum: --set optim.momentum=0.9")
        return self

    @property
    def moments(self) -> int:
        """See the base class."""
        return 1 if self.momentum else 0

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """See the base class."""
        optimizer = torch.optim.SGD(groups, lr=0.0, momentum=self.momentum, nesterov=self.nesterov, fused=True)
        if self.momentum:
            # Torch would leave v uninitialised where the first step is skipped, and refuses a group in which only some
            # have a v, as after a head was frozen. A v of 0 makes the same first step.
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer
