"""What a head is: an MLP on top of an encoder's tokens, and in some kinds prototypes on top of that.

A head is used in two parts, because they cost differently: ``embed`` runs the MLP, ``logits`` the K-wide last layer.
Objectives that need few tokens' logits, or only their mean, pay for just those.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sslkit import registry
from sslkit.distributed.sums import standardised
from sslkit.recipe.sections import HeadSection
from sslkit.schedules import Moment


@dataclass(frozen=True)
class HeadOutput:
    """What a head makes of tokens."""

    embedding: Tensor  # (..., E), before the L2 normalisation
    logits: Tensor | None = None  # (..., K) float32; None for a head without prototypes

    @property
    def scores(self) -> Tensor:
        """``logits`` of a head that is known to have prototypes."""
        assert self.logits is not None
        return self.logits


class Head(nn.Module, ABC):
    """A head on an encoder's width D; a kind without prototypes has ``embed`` only.

    ``lender`` is the built head that ``config.lender`` names.
    """

    class Config(HeadSection):
        """Keys of the head's section in a recipe."""

    def __init__(self, width: int, config: HeadSection, lender: "Head | None" = None):
        super().__init__()
        self.has_prototypes = config.prototypes is not None

    @abstractmethod
    def embed(self, tokens: Tensor, real: int | None = None) -> Tensor:
        """(..., B, D) -> (..., B, E); only the first ``real`` rows count in statistics of a batch: padding follows."""

    def logits(self, embedding: Tensor) -> Tensor:
        """(..., E) -> (..., K) in float32."""
        raise NotImplementedError(f"{type(self).__name__} has no prototypes")

    def mean_logits(self, embedding: Tensor) -> Tensor:
        """(M, E) -> (K,): the mean of all M tokens' logits."""
        return self.logits(embedding).mean(0)

    def last_layer(self) -> list[nn.Parameter]:
        """The parameters that only ``logits`` uses."""
        return []

    def frozen_parameters(self, at: Moment) -> list[nn.Parameter]:
        """The parameters that do not move yet at this moment."""
        return []

    def forward(self, tokens: Tensor) -> HeadOutput:
        """(..., B, D) tokens through the whole head."""
        embedding = self.embed(tokens)
        return HeadOutput(embedding, self.logits(embedding) if self.has_prototypes else None)


class HeadDict(nn.ModuleDict):
    """The heads of a branch, by name."""

    if TYPE_CHECKING:

        def __getitem__(self, key: str) -> Head: ...


class BatchNorm(nn.Module):
    """BatchNorm over the batch of all processes, each view by itself; it keeps no running statistics.

    ``torch.nn.SyncBatchNorm`` refuses tensors on the CPU and would mix the views. A head is used in training only.
    """

    def __init__(self, width: int, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None

    def forward(self, x: Tensor, real: int | None = None) -> Tensor:
        """(..., B, D) -> the same shape, float32; see ``standardised``."""
        x = standardised(x, real)
        return x if self.weight is None or self.bias is None else x * self.weight + self.bias


class Mlp(nn.Sequential):
    """Layers in a row, whose BatchNorm knows how many rows of the batch are real."""

    def forward(self, x: Tensor, real: int | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(..., B, D) -> (..., B, E)."""
        for layer in self:
            x = layer(x, real) if isinstance(layer, BatchNorm) else layer(x)
        return x


def mlp(
    width: int,
    hidden: int,
    out: int,
    layers: int,
    batch_norm: bool = False,
    last_norm: bool = False,
    activation: type[nn.Module] | None = None,
) -> Mlp:
    """Linear layers with GELU between them; with BatchNorm: Linear, BatchNorm, ReLU, unless ``activation`` is given.

    ``last_norm`` ends the MLP with a BatchNorm without weights: SimSiam's and MoCo v3's (arXiv:2011.10566, 2104.02057).
    """
    activation = activation or (nn.ReLU if batch_norm else nn.GELU)
    widths = [width, *[hidden] * (layers - 1), out]
    modules: list[nn.Module] = []
    for index in range(layers):
        # BatchNorm would subtract a bias again.
        normed = last_norm if index == layers - 1 else batch_norm
        linear = nn.Linear(widths[index], widths[index + 1], bias=not normed)
        if batch_norm:
            modules += [linear, BatchNorm(widths[index + 1]), activation()]
        else:
            nn.init.trunc_normal_(linear.weight, std=0.02)
            modules += [linear, activation()]
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    layers_only = modules[: -2 if batch_norm else -1]
    return Mlp(*layers_only, *([BatchNorm(out, affine=False)] if last_norm else []))


def build(width: int, sections: Mapping[str, HeadSection]) -> HeadDict:
    """All heads of a branch, by name; one that shares another head's layers is built after that head."""
    heads = HeadDict()
    for name, section in sorted(sections.items(), key=lambda item: item[1].lender is not None):
        kind: type[Head] = registry.load("sslkit.heads", section.kind)
        heads[name] = kind(width, section, heads[section.lender] if section.lender else None)
    return heads
