"""Many linear heads trained at once: the sweep of a linear probe as one matrix.

S settings (learning rate, weight decay) of C classes are S x C rows of one weight: one matrix product forward and one
backward per step serve them all. Each head is updated exactly as SGD with momentum 0.9 would update it alone
(arXiv:2104.14294, appendix). No arithmetic mixes the rows of two settings, so one that diverges does not affect others.
"""

from collections.abc import Sequence
from math import cos, pi

import torch
from torch import Tensor

MOMENTUM = 0.9


def cosine(step: int, steps: int) -> float:
    """Learning rate before a step as a share of its peak: 1 at the first step, close to 0 at the last."""
    return 0.5 * (1 + cos(pi * step / steps))


class LinearHeads:
    """S linear heads, trained together from zero.

    Args:
        grid: (learning rate per 256 images, weight decay) of every head; the bias has no decay.
        classes: C.
        width: of the features, D.
        batch: images per step, by which the learning rates are scaled.
        device: where they are trained.
    """

    def __init__(self, grid: Sequence[tuple[float, float]], classes: int, width: int, batch: int, device: torch.device):
        self.count, self.classes, self.device = len(grid), classes, device
        peak = torch.tensor([lr for lr, _ in grid], device=device).mul(batch / 256)
        decay = torch.tensor([wd for _, wd in grid], device=device)
        self._peak, self._decay = (value[:, None].repeat_interleave(classes, 0) for value in (peak, decay))
        self._weight = torch.zeros(self.count * classes, width, device=device)
        self._bias = torch.zeros(self.count * classes, 1, device=device)
        self._momentum, self._bias_momentum = torch.zeros_like(self._weight), torch.zeros_like(self._bias)

    @property
    def weight(self) -> Tensor:
        """(S, C, D), for standardised features."""
        return self._weight.view(self.count, self.classes, -1)

    @property
    def bias(self) -> Tensor:
        """(S, C), for standardised features."""
        return self._bias.view(self.count, self.classes)

    def step(self, rows: Tensor, truth: Tensor, rate: float) -> None:
        """Update every head by one step of its own SGD.

        Args:
            rows: (B, D) float32 standardised features, on the device.
            truth: (B,) int64 classes, on the device.
            rate: share of the peak learning rate, see ``cosine``.
        """
        # The gradient of each setting's cross-entropy with respect to its logits: softmax - one-hot. The mean over
        # the images is taken in the sums below.
        error, where = self._logits(rows).softmax(1), truth.expand(self.count, 1, -1)
        error = error.scatter_add_(1, where, error.new_full((), -1.0).expand_as(where)).flatten(0, 1)
        now, share = self._peak * rate, 1 / len(rows)
        self._momentum.addmm_(error, rows, beta=MOMENTUM, alpha=share).addcmul_(self._weight, self._decay)
        self._bias_momentum.mul_(MOMENTUM).add_(error.sum(1, keepdim=True), alpha=share)
        self._weight.addcmul_(self._momentum, now, value=-1)
        self._bias.addcmul_(self._bias_momentum, now, value=-1)

    def hits(self, rows: Tensor, truth: Tensor) -> Tensor:
        """How many of these rows each head gets right: (B, D) standardised, (B,) -> (S,) int64."""
        return (self._logits(rows).argmax(1) == truth).sum(1)

    def _logits(self, rows: Tensor) -> Tensor:
        """(B, D) -> (S, C, B): images last, as a softmax over a few adjacent numbers is slower than the products."""
        return torch.addmm(self._bias, self._weight, rows.T).view(self.count, self.classes, -1)

    def finite(self) -> Tensor:
        """Which heads did not diverge: (S,) bool."""
        return torch.isfinite(self.weight).flatten(1).all(1) & torch.isfinite(self.bias).all(1)

    def fold(self, which: int, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Head ``which`` with the standardisation folded in: (C, D) and (C,) for raw features, on the CPU."""
        weight = (self.weight[which] * scale.to(self.device)).cpu()
        bias = (self.bias[which].cpu().double() - weight.double() @ mean.cpu().double()).float()
        return weight, bias
