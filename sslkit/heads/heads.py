"""Heads on top of an encoder's tokens.

A head is used in two parts, because they cost differently: ``embed`` runs the MLP, ``logits`` the K-wide last
layer. Objectives that need few tokens' logits, or only their mean, pay for just those. A projector ends with its
embedding and has no logits.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit.distributed.sums import standardised
from sslkit.recipe.sections import HeadSection, ProjectorSection, PrototypesSection


class BatchNorm(nn.Module):
    """BatchNorm over the batch of all processes, each view by itself; it keeps no running statistics.

    ``torch.nn.SyncBatchNorm`` refuses tensors on the CPU and would mix the views. A head is used in training only.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., B, D) -> the same shape, float32."""
        return standardised(x) * self.weight + self.bias


class PrototypeHead(nn.Module):
    """DINO's head (arXiv:2104.14294, appendix C): MLP, L2-normalised bottleneck, weight-normed prototypes.

    Args:
        width: D, the encoder's.
        section: sizes; ``norm: free`` learns the length of every prototype's weight vector.
        trunk: another head whose MLP is shared (iBOT's heads that are not shared still share the MLP).
    """

    def __init__(self, width: int, section: PrototypesSection, trunk: "PrototypeHead | None" = None):
        super().__init__()
        self.mlp = trunk.mlp if trunk else mlp(width, section.hidden, section.bottleneck, section.layers)
        bottleneck = trunk.prototypes.shape[1] if trunk else section.bottleneck
        self.prototypes = nn.Parameter(torch.empty(section.out, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        self.length = nn.Parameter(torch.ones(section.out, 1)) if section.norm == "free" else None

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., E), the bottleneck before its L2 normalisation."""
        return self.mlp(tokens)

    def logits(self, embedding: Tensor) -> Tensor:
        """(..., E) -> (..., K) in float32."""
        return self._prototype_scores(F.normalize(embedding.float(), dim=-1))

    def mean_logits(self, embedding: Tensor) -> Tensor:
        """(M, E) -> (K,): the mean of all M tokens' logits, for the price of one.

        The last layer is linear, so the mean of its outputs is the layer applied to the mean input.
        """
        return self._prototype_scores(F.normalize(embedding.float(), dim=-1).mean(0))

    def last_layer(self) -> list[nn.Parameter]:
        """What stays frozen at first."""
        return [self.prototypes] if self.length is None else [self.prototypes, self.length]

    def _prototype_scores(self, unit: Tensor) -> Tensor:
        weight = F.normalize(self.prototypes, dim=-1)
        if self.length is not None:
            weight = weight * self.length
        return F.linear(unit, weight).float()


class Projector(nn.Module):
    """The MLP of SimCLR, BYOL, Barlow Twins and VICReg: BatchNorm after every layer but the last.

    Args:
        width: D, the encoder's.
        section: sizes.
    """

    def __init__(self, width: int, section: ProjectorSection):
        super().__init__()
        self.mlp = mlp(width, section.hidden, section.out, section.layers, section.batch_norm)

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., B, D) -> (..., B, E); BatchNorm's statistics are those of the B of all processes."""
        return self.mlp(tokens)


Head = PrototypeHead | Projector


def mlp(width: int, hidden: int, out: int, layers: int, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers with GELU between them; with BatchNorm: Linear, BatchNorm, ReLU, as its papers have it."""
    widths = [width, *[hidden] * (layers - 1), out]
    modules: list[nn.Module] = []
    for index in range(layers):
        # BatchNorm takes a bias away again.
        linear = nn.Linear(widths[index], widths[index + 1], bias=not batch_norm or index == layers - 1)
        if batch_norm:
            modules += [linear, BatchNorm(widths[index + 1]), nn.ReLU()]
        else:
            nn.init.trunc_normal_(linear.weight, std=0.02)
            modules += [linear, nn.GELU()]
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    return nn.Sequential(*modules[: -2 if batch_norm else -1])


def build(width: int, sections: Mapping[str, HeadSection]) -> nn.ModuleDict:
    """All heads of a branch, by name; a head with a ``trunk`` comes after the one whose MLP it shares."""
    heads = nn.ModuleDict()

    def trunk(section: Any) -> str | None:
        return getattr(section, "trunk", None)

    for name, section in sorted(sections.items(), key=lambda item: trunk(item[1]) is not None):
        if isinstance(section, ProjectorSection):
            heads[name] = Projector(width, section)
            continue
        assert isinstance(section, PrototypesSection)
        shared = heads[section.trunk] if section.trunk else None
        assert shared is None or isinstance(shared, PrototypeHead)
        heads[name] = PrototypeHead(width, section, shared)
    return heads
