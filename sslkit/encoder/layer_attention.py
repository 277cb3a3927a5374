"""Attention maps of an encoder: from one token to the patches, in any layer, or rolled out through all of them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sslkit.encoder.attention import project, rows
from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError

CHUNK = 1024  # rows of a full attention matrix that are in memory at once


def attention_maps(encoder: Encoder, images: Tensor, layers: Sequence[int], query: int | None = None) -> Tensor:
    """Attention from one token in some layers.

    Args:
        encoder: a ViT.
        images: (B, 3, H, W) normalised; H and W multiples of the patch size.
        layers: numbered from 1, in any order.
        query: index of a patch, numbered from 0 row by row; None reads CLS's attention.

    Returns:
        (B, L, H, N) float32, in the order of ``layers``, after softmax over all tokens: as in ``Tokens``, a row
        sums to less than 1 where there are CLS or register tokens.

    Raises:
        UsageError: no such layer or patch, no CLS token, or an architecture whose attention cannot be read.
    """
    token = _query_token(encoder, images, query)
    unknown = [layer for layer in layers if not 1 <= layer <= encoder.depth]
    if unknown:
        raise UsageError(f"layer {unknown[0]}: {encoder.spec.arch} has layers 1 to {encoder.depth}")
    found: dict[int, Tensor] = {}
    for number, (block, x) in enumerate(encoder.walk(images), 1):
        if number in layers:
            found[number] = encoder.attention_row(block, x, token)
        if number == max(layers):
            break
    return torch.stack([found[layer] for layer in layers], 1)


def attention_rollout(encoder: Encoder, images: Tensor, query: int | None = None) -> Tensor:
    """Attention rollout (arXiv:2005.00928, section 3) from one token: its row of A_L ... A_2 A_1.

    Each A is half the identity, for the residual connection, and half the mean over the layer's heads. Arguments and
    errors are those of ``attention_maps``.

    Returns:
        (B, N) float32; it sums to less than 1 where there are CLS or register tokens.
    """
    token = _query_token(encoder, images, query)
    layers: list[tuple[Any, Tensor, Tensor]] = []
    for block, x in encoder.walk(images):
        inner = block.norm1(x)
        layers.append((block, *project(block, inner, inner)))
    _, _, keys = layers[0]
    row = torch.zeros(keys.shape[0], keys.shape[2], device=keys.device)
    row[:, token] = 1
    # From the last layer down: a row times a matrix needs no product of whole matrices, and never a whole one.
    for block, q, k in reversed(layers):
        below = torch.zeros_like(row)
        for start in range(0, q.shape[2], CHUNK):
            part = row[:, start : start + CHUNK]
            for head in range(q.shape[1]):
                matrix = rows(block, q[:, head : head + 1, start : start + CHUNK], k[:, head : head + 1])[:, 0]
                with torch.autocast(row.device.type, enabled=False):  # it would round to bf16
                    below += torch.einsum("bt,bts->bs", part, matrix) / q.shape[1]
        row = 0.5 * row + 0.5 * below
    return row[:, encoder.prefix :]


def _query_token(encoder: Encoder, images: Tensor, query: int | None) -> int:
    """Position among all tokens of CLS (None) or of a patch; refuses what ``attention_maps`` does."""
    if why := encoder.why_no_attention(cls=query is None):
        raise UsageError(f"{why}: attention from {'CLS' if query is None else 'patches'} cannot be read from it")
    patches = math.prod(encoder.grid(*images.shape[-2:]))
    if query is not None and not 0 <= query < patches:
        raise UsageError(f"patch {query}: there are {patches}, numbered from 0 row by row")
    return 0 if query is None else encoder.prefix + query
