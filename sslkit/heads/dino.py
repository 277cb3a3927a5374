"""DINO's head (arXiv:2104.14294, appendix C): MLP, L2-normalised bottleneck, weight-normed prototypes."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit.heads.base import Head, mlp
from sslkit.schedules import Duration, Moment


class PrototypeHead(Head):
    """A bottleneck and K prototypes.

    Even iBOT's separate heads share their MLP (arXiv:2111.07832): ``trunk`` names the head that lends it.
    """

    class Config(Head.Config):
        """Keys of ``heads: {NAME: {kind: dino, ...}}``."""

        kind: str = "dino"
        out: int = Field(default=8192, gt=0, le=2**24)  # prototypes K
        hidden: int = Field(default=2048, gt=0, le=2**24)
        bottleneck: int = Field(default=256, gt=0, le=2**24)
        layers: int = Field(default=3, gt=0, le=100)
        norm: Literal["fixed", "free"] = "fixed"  # of each prototype's weight vector; free is learned
        frozen: Duration = 1.0  # epochs in which the last layer does not move
        batch_norm: bool = False  # in the MLP: the authors' use_bn_in_head
        trunk: str | None = None  # a head that shares its MLP with this one

        @property
        def embedding(self) -> int:
            """The bottleneck."""
            return self.bottleneck

        @property
        def prototypes(self) -> int:
            """K."""
            return self.out

        @property
        def couples_batch(self) -> bool:
            """With BatchNorm."""
            return self.batch_norm

        @property
        def lender(self) -> str | None:
            """The head that shares its MLP."""
            return self.trunk

    def __init__(self, width: int, config: Config, lender: "PrototypeHead | None" = None):
        super().__init__(width, config)
        self.frozen = config.frozen
        self.mlp = (
            lender.mlp
            if lender
            else mlp(width, config.hidden, config.bottleneck, config.layers, config.batch_norm, activation=nn.GELU)
        )
        bottleneck = lender.prototypes.shape[1] if lender else config.bottleneck
        self.prototypes = nn.Parameter(torch.empty(config.out, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        self.length = nn.Parameter(torch.ones(config.out, 1)) if config.norm == "free" else None

    def embed(self, tokens: Tensor, real: int | None = None) -> Tensor:
        """(..., B, D) -> (..., B, E), the bottleneck before its L2 normalisation; see the base class."""
        return self.mlp(tokens, real)

    def logits(self, embedding: Tensor) -> Tensor:
        """(..., E) -> (..., K) in float32."""
        return self._prototype_scores(F.normalize(embedding.float(), dim=-1))

    def mean_logits(self, embedding: Tensor) -> Tensor:
        """(M, E) -> (K,): the mean of all M tokens' logits, for the price of one.

        The last layer is linear, so the mean of its outputs is the layer applied to the mean input.
        """
        return self._prototype_scores(F.normalize(embedding.float(), dim=-1).mean(0))

    def last_layer(self) -> list[nn.Parameter]:
        """The prototypes and their lengths."""
        return [self.prototypes] if self.length is None else [self.prototypes, self.length]

    def frozen_parameters(self, at: Moment) -> list[nn.Parameter]:
        """The last layer during the first ``frozen`` epochs."""
        return self.last_layer() if at.reached(self.frozen) < 1 else []

    def _prototype_scores(self, unit: Tensor) -> Tensor:
        weight = F.normalize(self.prototypes, dim=-1)
        if self.length is not None:
            weight = weight * self.length
        return F.linear(unit, weight).float()
