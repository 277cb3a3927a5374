"""Loss scaling for fp16 (arXiv:1710.03740): with its 5 bits of exponent, small gradients would become 0.

The loss is multiplied by a scale and its gradients are divided by it. A scale that is too high makes gradients
overflow: that step is skipped, and the scale halves. After 2,000 steps without an overflow it doubles. It lives on the
device, and nothing here waits for it but ``state`` and ``read``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sslkit.device import Precision

LOWEST = 1.0  # at this scale or below, a gradient that is not finite is the gradient's own fault


class LossScale:
    """Torch's gradient scaler, for a loop that skips steps itself; in other precisions it changes nothing."""

    def __init__(self, device: torch.device, precision: Precision):
        self.used = precision == "fp16"
        self.overflows = 0  # steps that were skipped because the scale was too high
        self._device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.used)

    def apply(self, loss: Tensor) -> Tensor:
        """The scaled loss."""
        return self._scaler.scale(loss)

    def value(self) -> Tensor:
        """The scale, 0-dim on the device; 1 where it is not used."""
        return self._scaler.scale(torch.ones((), device=self._device))

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, once all of a step have been accumulated."""
        self._scaler.unscale_(optimizer)

    def update(self, loss_failed: Tensor, gradient_failed: Tensor) -> Tensor:
        """Move the scale after a step.

        Args:
            loss_failed: 0-dim bool: the loss was not finite, which no scale can change.
            gradient_failed: 0-dim bool: some gradient was not finite.

        Returns:
            0-dim bool: the step failed because the scale was too high, and for no other reason.
        """
        if not self.used:
            return torch.zeros_like(loss_failed)
        too_high = gradient_failed & ~loss_failed & (self.value() > LOWEST)
        self._scaler.update()
        return too_high

    def read(self) -> dict[str, float]:
        """What the log says about it; waits for the device."""
        return {"loss_scale": self._scaler.get_scale(), "overflows": self.overflows} if self.used else {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; waits for the device."""
        return {"loss_scale": {**self._scaler.state_dict(), "overflows": self.overflows}} if self.used else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the value of ``loss_scale`` in what ``state`` returned."""
        self.overflows = state["overflows"]
        self._scaler.load_state_dict({key: value for key, value in state.items() if key != "overflows"})
