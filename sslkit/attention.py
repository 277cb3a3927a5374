"""Attention read from a block of timm's without unfusing it: single rows, and their way down through the layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # rows of a full matrix that are in memory at once


def project(block: Any, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What a block compares: queries of some tokens and keys of all.

    Args:
        block: of timm's ``VisionTransformer``.
        x: (B, T, D) what enters the block, after its first norm.
        tokens: (B, t, D) those of ``x`` that ask.

    Returns:
        (B, H, t, d) and (B, H, T, d).
    """
    attn = block.attn
    width, heads = attn.attn_dim, attn.num_heads
    weight, bias = attn.qkv.weight, attn.qkv.bias
    q = F.linear(tokens, weight[:width], None if bias is None else bias[:width])
    k = F.linear(x, weight[width : 2 * width], None if bias is None else bias[width : 2 * width])
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
    return attn.q_norm(q), attn.k_norm(k)


def rows(block: Any, q: Tensor, k: Tensor) -> Tensor:
    """(B, H, t, d), (B, H, T, d) -> (B, H, t, T) softmax(q k^T / sqrt(d)), in float32."""
    return ((q @ k.transpose(-2, -1)).float() * block.attn.scale).softmax(-1)


def roll_out(layers: Sequence[tuple[Any, Tensor, Tensor]], row: Tensor) -> Tensor:
    """Attention rollout (arXiv:2005.00928, section 3) of one token: its row of A_L ... A_2 A_1.

    Each A is half the identity, for the residual connection, and half the mean of the layer's heads. The row goes
    down from the last layer, so that no product of whole matrices is made, and none is ever in memory whole.

    Args:
        layers: block, queries and keys (B, H, T, d) of all tokens, first layer first.
        row: (B, T) where to begin: 1 at the token that asks, else 0.

    Returns:
        (B, T) float32; it sums to 1.
    """
    row = row.float()
    for block, q, k in reversed(layers):
        below = torch.zeros_like(row)
        for start in range(0, q.shape[2], CHUNK):
            part = row[:, start : start + CHUNK]
            for head in range(q.shape[1]):
                matrix = rows(block, q[:, head : head + 1, start : start + CHUNK], k[:, head : head + 1])[:, 0]
                with torch.autocast(row.device.type, enabled=False):  # it would round to bf16
                    below += torch.einsum("bt,bts->bs", part, matrix) / q.shape[1]
        row = 0.5 * row + 0.5 * below
    return row
