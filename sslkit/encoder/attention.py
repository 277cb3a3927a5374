"""Attention read from a block of timm's without unfusing it: single rows, and their way down through the layers.

And the two questions that everyone asks of it: at which size a photo is looked at, and which tokens hold most of the
mass, the mask of DINO's attention segmentation (arXiv:2104.14294, section 4.2.2 and appendix A).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # rows of a full matrix that are in memory at once
MAX_TOKENS = 8192  # a panorama is scaled down to this many patches: attention costs their square


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


def threshold(attention: Tensor, keep: float = 0.6) -> Tensor:
    """The fewest most-attended tokens of each head that together hold ``keep`` of the head's mass.

    Args:
        attention: (..., N) non-negative; it is normalised to sum to 1 here.
        keep: share of the mass, in (0, 1].

    Returns:
        (..., N) bool.
    """
    share, order = torch.sort(attention / attention.sum(-1, keepdim=True), dim=-1)
    # From the least attended up: what lies beyond the first (1 - keep) of the mass stays.
    kept = share.cumsum(-1) > 1 - keep
    return torch.zeros_like(kept).scatter(-1, order, kept)


def model_size(height: int, width: int, shorter: int, patch: int) -> tuple[int, int]:
    """Height and width, in pixels and multiples of ``patch``, at which a photo enters the encoder.

    The shorter side becomes ``shorter`` (rounded down to a multiple) and the proportion is kept as far as whole
    patches allow; a very long photo is made smaller altogether, to ``MAX_TOKENS`` patches.

    >>> model_size(300, 400, 224, 16)
    (224, 304)
    """
    small = max(shorter // patch, 1)
    long = max(round(small * max(height, width) / min(height, width)), small)
    if small * long > MAX_TOKENS:
        ratio = max(height, width) / min(height, width)
        small = max(int((MAX_TOKENS / ratio) ** 0.5), 1)
        long = min(max(round(small * ratio), small), MAX_TOKENS // small)
    rows, columns = (small, long) if height <= width else (long, small)
    return rows * patch, columns * patch
