"""One photo through a frozen encoder: attention, keys and tokens of its patches, at any size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor
from torch.nn import functional as F

from sslkit.device import Precision, autocast
from sslkit.encoder.encoder import Encoder
from sslkit.encoder.input_size import input_size
from sslkit.errors import SslkitError


@dataclass(frozen=True)
class Seen:
    """What an encoder makes of the N patches of one photo; all float32 on the CPU.

    Attributes:
        grid: rows and columns of patches.
        attention: (H, N) of the last block from CLS; None where the encoder has none.
        keys: (N, D) of the last block, all heads joined; tokens where its attention is not timm's plain one.
        patches: (N, D) tokens after the final norm.
    """

    grid: tuple[int, int]
    attention: Tensor | None
    keys: Tensor
    patches: Tensor


class PatchTokens:
    """A frozen encoder that looks at photos of any size, one at a time.

    Args:
        encoder: moved to the device, in eval mode.
        shorter: pixels of a photo's shorter side.
        device: where.
        precision: of the matrix products.
        mean: of the normalisation, per channel.
        std: the same.

    Attributes:
        no_attention: why there is none; empty where there is.

    Raises:
        SslkitError: the model is no ViT.
    """

    def __init__(
        self,
        encoder: Encoder,
        shorter: int,
        device: torch.device,
        precision: Precision,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        if not encoder.vit:
            raise SslkitError(f"{encoder.spec.arch} is no ViT: it has no patch tokens to segment with")
        self.encoder, self.shorter, self.device = encoder.to(device).eval(), shorter, device
        self.precision: Precision = precision
        self._mean, self._std = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
        self.no_attention = encoder.why_no_attention()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Seen:
        """Look at a photo, uint8 (3, H, W) of any size.

        Raises:
            SslkitError: what comes out is not finite.
        """
        height, width = input_size(image.shape[1], image.shape[2], self.shorter, self.encoder.patch_size)
        # Resized as bytes on the CPU: a large photo never becomes float.
        small = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True).to(self.device)
        with _Keys(self.encoder) as keys, autocast(self.device, self.precision):
            tokens = self.encoder((small / 255 - self._mean) / self._std, attention=not self.no_attention)
        assert tokens.patches is not None
        patches = tokens.patches[0].float().cpu()
        attention = None if tokens.attention is None else tokens.attention[0].float().cpu()
        if not patches.isfinite().all() or (attention is not None and not attention.isfinite().all()):
            raise SslkitError(
                f"the tokens of {self.encoder.spec.arch} are not finite: its weights hold NaN or infinity"
            )
        found = patches if keys.found is None else keys.found[0, self.encoder.prefix :].float().cpu()
        return Seen(self.encoder.grid(height, width), attention, found, patches)


class _Keys:
    """Reads the keys of the last block as they pass: (B, T, D), or None where it is built in another way."""

    def __init__(self, encoder: Encoder):
        self._attention: Any = getattr(encoder.model.blocks[-1], "attn", None)
        self.found: Tensor | None = None

    def __enter__(self) -> "_Keys":
        plain = isinstance(self._attention, Attention)
        self._hook = self._attention.qkv.register_forward_hook(self._read) if plain else None
        return self

    def _read(self, module: Any, inputs: Any, output: Tensor) -> None:
        self.found = output.unflatten(-1, (3, -1))[:, :, 1]

    def __exit__(self, *error: object) -> None:
        if self._hook is not None:
            self._hook.remove()
