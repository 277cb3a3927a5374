"""Fixed sine and cosine positions, as in MAE (arXiv:2111.06377)."""

import torch
from torch import Tensor

from sslkit.encoder.encoder import Encoder
from sslkit.errors import UsageError


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Positions of patches as sines and cosines of row and column (arXiv:1706.03762, section 3.5, in two dimensions).

    Args:
        grid: rows and columns of patches, N in all.
        width: D.

    Returns:
        (N, D) in row-major order; each of the D/4 wavelengths gives a sine and a cosine of the row and of the column.

    Raises:
        UsageError: D is not a multiple of 4.
    """
    if width % 4:
        raise UsageError(f"sine and cosine positions require a width that is a multiple of 4, not {width}: try "
                         f"{width // 4 * 4 + 4}")  # fmt: skip
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    return build_sincos2d_pos_embed(list(grid), width)


def fix_positions(encoder: Encoder) -> None:
    """Replace an encoder's learned positions by ``sincos_positions`` that are not trained.

    CLS and registers get zeros. The table stays timm's own parameter, so plain timm loads what is exported.

    Raises:
        UsageError: the encoder has no table of positions, or its width is not a multiple of 4.
    """
    table = getattr(encoder.model, "pos_embed", None)
    if table is None:
        raise UsageError(f"{encoder.spec.arch} has no table of positions to fix")
    fixed = sincos_positions(encoder.model.patch_embed.grid_size, encoder.width)
    with torch.no_grad():
        # The table begins with the prefix tokens, in architectures that give them a position.
        table.zero_()[0, table.shape[1] - len(fixed) :] = fixed
    table.requires_grad_(False)
