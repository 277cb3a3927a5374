"""Photos of any size through a frozen encoder: attention, keys and tokens of their patches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor
from torch.nn import functional as F

from sslkit.encoder.encoder import Encoder
from sslkit.encoder.frozen import FrozenEncoder
from sslkit.encoder.input_size import input_size
from sslkit.errors import SslkitError


@dataclass(frozen=True)
class PhotoTokens:
    """What an encoder computes for the N patches of one photo; all float32 on the CPU."""

    grid: tuple[int, int]  # rows and columns of patches
    attention: Tensor | None  # (H, N) from CLS in the last block; None if the encoder has none
    keys: Tensor  # (N, D) of the last block, all heads joined; the tokens if its attention is not timm's plain one
    patches: Tensor  # (N, D) tokens after the final norm


class PhotoEncoder:
    """Encodes photos of any size, one at a time.

    Args:
        frozen: the encoder.
        shorter: pixels that a photo's shorter side is resized to.

    Raises:
        SslkitError: the model is not a ViT.
    """

    def __init__(self, frozen: FrozenEncoder, shorter: int):
        if not frozen.encoder.vit:
            raise SslkitError(f"{frozen.encoder.spec.arch} is not a ViT: it has no patch tokens to segment with")
        self.frozen, self.shorter = frozen, shorter
        self.no_attention = frozen.encoder.why_no_attention()  # empty if there is attention

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> PhotoTokens:
        """Encode a photo, uint8 (3, H, W) of any size.

        Raises:
            SslkitError: a token is not finite.
        """
        encoder = self.frozen.encoder
        height, width = input_size(image.shape[1], image.shape[2], self.shorter, encoder.patch_size)
        # Resized as bytes on the CPU: a large photo never becomes float.
        small = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)
        keys: list[Tensor] = []
        with _keys_into(keys, encoder), self.frozen.autocast():
            tokens = encoder(self.frozen.normalise(small), attention=not self.no_attention)
        assert tokens.patches is not None
        patches = tokens.patches[0].float().cpu()
        attention = None if tokens.attention is None else tokens.attention[0].float().cpu()
        if not patches.isfinite().all() or (attention is not None and not attention.isfinite().all()):
            raise SslkitError(f"the tokens of {encoder.spec.arch} are not finite: {self.frozen.why_not_finite}")
        found = keys[0][0, encoder.prefix :].float().cpu() if keys else patches
        return PhotoTokens(encoder.grid(height, width), attention, found, patches)


@contextmanager
def _keys_into(found: list[Tensor], encoder: Encoder) -> Iterator[None]:
    """Appends the keys of the last block, (B, T, D); nothing if its attention is not timm's plain one."""
    attention: Any = getattr(encoder.model.blocks[-1], "attn", None)
    if not isinstance(attention, Attention):
        yield
        return
    hook = attention.qkv.register_forward_hook(lambda *call: found.append(call[-1].unflatten(-1, (3, -1))[:, :, 1]))
    try:
        yield
    finally:
        hook.remove()
