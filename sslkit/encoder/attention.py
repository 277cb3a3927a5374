"""Attention read from timm's blocks: only the rows that are asked for, so that the blocks keep fused attention."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def project(block: Any, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Queries of some tokens and keys of all tokens in a block.

    Args:
        block: of timm's ``VisionTransformer``.
        x: (B, T, D) what enters the block, after its first norm.
        tokens: (B, t, D) the tokens of ``x`` whose attention is read.

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
    """Rows of the attention matrix, softmax(q k^T / sqrt(d)): (B, H, t, d), (B, H, T, d) -> (B, H, t, T) float32."""
    scale = block.attn.scale
    if q.dtype == torch.float16:
        q, scale = q * scale, 1.0  # the products of some trained encoders exceed 65,504, the largest number of fp16
    return ((q @ k.transpose(-2, -1)).float() * scale).softmax(-1)


def for_cls(block: Any, x: Tensor) -> Tensor:
    """What a block makes of CLS, the first token, alone: (B, T, D) -> (B, 1, D).

    The others only give keys and values, a sixth of a block's products: for a last block whose patches nobody reads.
    """
    attn, normed, cls = block.attn, block.norm1(x), x[:, :1]
    q, k = project(block, normed, normed[:, :1])
    weight, bias = attn.qkv.weight[2 * attn.attn_dim :], attn.qkv.bias
    v = F.linear(normed, weight, None if bias is None else bias[2 * attn.attn_dim :])
    v = v.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
    seen = (rows(block, q, k).to(v.dtype) @ v).transpose(1, 2).flatten(2)
    cls = cls + block.drop_path1(block.ls1(attn.proj_drop(attn.proj(attn.norm(seen)))))
    return cls + block.drop_path2(block.ls2(block.mlp(block.norm2(cls))))


def threshold(attention: Tensor, keep: float = 0.6) -> Tensor:
    """The fewest most-attended tokens of each head that together hold ``keep`` of the head's attention.

    The mask of DINO's attention segmentation (arXiv:2104.14294, section 4.2.2 and appendix A).

    Args:
        attention: (..., N) non-negative; each row is normalised here to sum to 1.
        keep: share of the attention, in (0, 1].

    Returns:
        (..., N) bool.
    """
    share, order = torch.sort(attention / attention.sum(-1, keepdim=True), dim=-1)
    # Counted from the least attended token up: all tokens beyond the first (1 - keep) of the sum are kept.
    kept = share.cumsum(-1) > 1 - keep
    return torch.zeros_like(kept).scatter(-1, order, kept)


def unfuse_attention(module: nn.Module) -> None:
    """Make the attention layers of a module that are trained multiply matrices instead of calling the fused kernel.

    On a CPU the fused kernel's backward pass in bf16 is so slow that a training step of ViT-S/16 takes 1.3 times
    as long with it, one of a small ViT at 48 pixels 1.6 times (torch 2.15). Its forward pass is the faster one, so
    layers without gradient, such as a teacher's, keep it.
    """
    from timm.layers.attention import Attention

    for layer in module.modules():
        if isinstance(layer, Attention) and layer.qkv.weight.requires_grad:
            layer.fused_attn = False  # pyright: ignore[reportAttributeAccessIssue]
