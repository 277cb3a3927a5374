"""How far each attention head looks, and how evenly: mean attention distance and entropy.

Distance is that of arXiv:2010.11929, figure 7, and arXiv:2108.08810, section 4.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sslkit.encoder.attention import project, rows
from sslkit.encoder.encoder import Encoder

ATTENTION_FLOATS = 1 << 25  # of one block's attention at a time: 128 MiB


class AttentionMeter:
    """Mean attention distance and entropy of every head, measured while images pass through the encoder.

    Queries and keys are patches; attention to CLS and registers is left out and each row is normalised to sum to 1, so
    that models with and without them are comparable. Blocks keep their fused attention; a hook reads their input.

    Args:
        encoder: one whose ``why_no_attention(cls=False)`` is empty; images come at its own size.

    Attributes:
        distances: (N, N) between the centres of patches, pixels.
    """

    def __init__(self, encoder: Encoder):
        self.blocks, self.prefix = list(encoder.model.blocks), encoder.prefix
        side = encoder.spec.image_size
        self.distances = patch_distances(encoder.grid(side, side), encoder.patch_size)
        self._sums: list[Any] = [0.0] * len(self.blocks)  # of (H, 2) float64: distance and entropy, over images
        self._images = [0] * len(self.blocks)
        self._hooks: list[Any] = []

    def __enter__(self) -> "AttentionMeter":
        for layer, block in enumerate(self.blocks):
            self._hooks.append(block.attn.register_forward_pre_hook(partial(self._measure, layer)))
        return self

    def __exit__(self, *error: object) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _measure(self, layer: int, attn: Any, inputs: tuple[Tensor, ...]) -> None:
        """Measure a block's attention from its input (B, T, D)."""
        patches, block = inputs[0][:, self.prefix :], self.blocks[layer]
        at_once = max(1, ATTENTION_FLOATS // (attn.num_heads * patches.shape[1] ** 2))
        for some in patches.split(at_once):
            attention = rows(block, *project(block, some, some))
            distance = attention_distance(attention, self.distances.to(attention.device))
            both = torch.stack([distance, attention_entropy(attention)], -1)
            self._sums[layer] = self._sums[layer] + both.cpu().double().sum(0)  # MPS has no doubles
            self._images[layer] += len(some)

    def per_head(self) -> dict[str, list[list[float]]]:
        """``distance`` (pixels) and ``entropy`` (nats), (L, H) each, means over images and queries."""
        means = torch.stack([total / count for total, count in zip(self._sums, self._images, strict=True)])
        return {"distance": means[..., 0].tolist(), "entropy": means[..., 1].tolist()}


def patch_distances(grid: tuple[int, int], patch_size: int) -> Tensor:
    """Distances between the centres of all patches of a (rows, columns) grid, in pixels: (N, N)."""
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float() * patch_size
    return (places[:, None] - places[None]).square().sum(-1).sqrt()


def attention_distance(attention: Tensor, distances: Tensor) -> Tensor:
    """How far a head looks: the distance from query to key, weighted by attention, averaged over queries.

    Args:
        attention: (..., N, N), rows that sum to 1.
        distances: (N, N).

    Returns:
        (...), in the unit of ``distances``.
    """
    return (attention * distances).sum(-1).mean(-1)


def attention_entropy(attention: Tensor) -> Tensor:
    """Entropy of attention in nats, averaged over queries: (..., N, N) -> (...), 0 (one key) to ln N (uniform)."""
    return torch.special.entr(attention).sum(-1).mean(-1)
