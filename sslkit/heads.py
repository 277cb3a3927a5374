"""Heads on top of an encoder's tokens.

A head is used in two parts, because they cost differently: ``embed`` runs the MLP, ``logits`` the K-wide last
layer. Objectives that need few tokens' logits, or only their mean, pay for just those.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit.recipe import HeadSection


class PrototypeHead(nn.Module):
    """DINO's head (arXiv:2104.14294, appendix C): MLP, L2-normalised bottleneck, weight-normed prototypes.

    Args:
        width: D, the encoder's.
        section: sizes; ``norm: free`` learns the length of every prototype's weight vector.
        trunk: another head whose MLP is shared (iBOT's heads that are not shared still share the MLP).
    """

    def __init__(self, width: int, section: HeadSection, trunk: "PrototypeHead | None" = None):
        super().__init__()
        self.mlp = trunk.mlp if trunk else _mlp(width, section.hidden, section.bottleneck, section.layers)
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

    forward = embed


def _mlp(width: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    widths = [width, *[hidden] * (layers - 1), out]
    modules: list[nn.Module] = []
    for index in range(layers):
        linear = nn.Linear(widths[index], widths[index + 1])
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.GELU()]
    return nn.Sequential(*modules[:-1])


def build(width: int, sections: dict[str, HeadSection]) -> nn.ModuleDict:
    """All heads of a branch, by name; a head with a ``trunk`` comes after the one whose MLP it shares."""
    heads = nn.ModuleDict()
    for name, section in sorted(sections.items(), key=lambda item: item[1].trunk is not None):
        trunk = heads[section.trunk] if section.trunk else None
        assert trunk is None or isinstance(trunk, PrototypeHead)
        heads[name] = PrototypeHead(width, section, trunk)
    return heads
