"""Stochastic depth (arXiv:1603.09382) whose draws the caller makes."""

from typing import Any

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Scales a residual branch, sample by sample: by 0 where it is dropped, by 1 / (1 - p) where it is kept.

    timm's own ``DropPath`` draws from the global generator, so neither a resumed run nor two processes would drop
    the same branches. Here the caller sets ``scales``, (B,), before each forward pass; None keeps everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scales: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x if self.scales is None else x * self.scales.to(x.dtype)[:, None, None]


def install(blocks: Any, rate: float) -> list[float]:
    """Give both branches of timm's blocks stochastic depth.

    Args:
        blocks: L of them; changed in place.
        rate: of the last block; it rises linearly from 0 in the first, as in DeiT and DINO.

    Returns:
        The rate of each of the 2L branches.
    """
    for block in blocks:
        block.drop_path1, block.drop_path2 = StochasticDepth(), StochasticDepth()
    return [rate * index / max(len(blocks) - 1, 1) for index in range(len(blocks)) for _ in range(2)]


def set_scales(blocks: Any, scales: Tensor | None) -> None:
    """Set the scales of the next forward pass: (2L, B), or None to drop nothing."""
    for index, block in enumerate(blocks):
        block.drop_path1.scales = None if scales is None else scales[2 * index]
        block.drop_path2.scales = None if scales is None else scales[2 * index + 1]


def scales_from(uniforms: Tensor, rates: list[float]) -> Tensor:
    """(2L, B) uniform numbers in [0, 1) and the rates of the branches -> (2L, B) scales."""
    per_branch = torch.tensor(rates, device=uniforms.device)[:, None]
    return (uniforms >= per_branch).float() / (1 - per_branch)
