"""The MLP of SimCLR, BYOL, Barlow Twins and VICReg: BatchNorm after every layer but the last, no prototypes.

SimSiam's and MoCo v3's have one after the last layer, too.
"""

from pydantic import Field
from torch import Tensor

from sslkit.heads.base import Head, mlp


class Projector(Head):
    """An MLP, usually with BatchNorm, that ends in an embedding."""

    class Config(Head.Config):
        """Keys of ``heads: {NAME: {kind: projector, ...}}``."""

        kind: str = "projector"
        out: int = Field(default=2048, gt=0, le=2**24)  # E
        hidden: int = Field(default=2048, gt=0, le=2**24)
        layers: int = Field(default=3, gt=0, le=100)
        batch_norm: bool = True
        last_norm: bool = False  # BatchNorm without weights after the last layer (arXiv:2011.10566, 2104.02057)

        @property
        def embedding(self) -> int:
            """Its output."""
            return self.out

        @property
        def couples_batch(self) -> bool:
            """BatchNorm does."""
            return self.batch_norm or self.last_norm

    def __init__(self, width: int, config: Config, lender: Head | None = None):
        super().__init__(width, config)
        c = config
        self.mlp = mlp(width, c.hidden, c.out, c.layers, c.batch_norm, c.last_norm)

    def embed(self, tokens: Tensor, real: int | None = None) -> Tensor:
        """(..., B, D) -> (..., B, E); see the base class. BatchNorm's statistics are those of all processes."""
        return self.mlp(tokens, real)
