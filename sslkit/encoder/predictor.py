"""A small transformer that predicts tokens at places it is told, from tokens at others (arXiv:2301.08243)."""

import torch
from pydantic import Field
from torch import Tensor, nn

from sslkit.encoder.recompute import through
from sslkit.encoder.sincos_positions import sincos_positions
from sslkit.errors import UsageError
from sslkit.recipe.sections import Strict


class PredictorSection(Strict):
    """The predictor: narrower than the encoder, and not exported."""

    width: int = Field(default=384, gt=0, le=65536)
    depth: int = Field(default=6, ge=0, le=1000)  # blocks
    heads: int = Field(default=6, gt=0, le=1024)


class Predictor(nn.Module):
    """From context tokens of D dimensions to tokens of D dimensions, on a grid of N patches; positions are fixed."""

    positions: Tensor

    def __init__(self, encoder_width: int, grid: tuple[int, int], section: PredictorSection):
        from timm.models.vision_transformer import Block

        super().__init__()
        width = section.width
        if width % section.heads:
            raise UsageError(f"method.predictor.heads {section.heads} does not divide its width {width}")
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(grid, width), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, section.heads, qkv_bias=True) for _ in range(section.depth)))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, encoder_width)
        self.apply(_initialise)

    def forward(self, tokens: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """Predict each target block by itself.

        Args:
            tokens: (C, K, D) of the context.
            context: (C, K) indices of their patches.
            targets: (C, T, A) indices of the patches of T blocks.

        Returns:
            (C, T, A, D).
        """
        blocks = targets.shape[1]
        known = (self.embed(tokens) + self.positions[context]).repeat_interleave(blocks, 0)
        asked = self.mask_token + self.positions[targets.flatten(0, 1)]
        x = through(self.blocks, torch.cat([known, asked.to(known.dtype)], 1))
        return self.project(self.norm(x[:, known.shape[1] :])).unflatten(0, (-1, blocks))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Predictor):
        nn.init.trunc_normal_(module.mask_token, std=0.02)
