"""The attention heads of two encoders, matched on the same images.

The distance is the Jensen-Shannon divergence (doi:10.1109/18.61115) of two maps as distributions over the patches, in
bits: 0 for equal maps, 1 for maps that share no patch. Heads have no order: each head is paired with one of the other
encoder's so that the sum of the divergences, each a mean over the images, is as small as possible (the assignment
problem).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from sslkit.statistics.intervals import interval

MOST = 1.0  # bits: the divergence of maps that share no patch


@dataclass(frozen=True)
class HeadPair:
    """The divergence of two heads (counted from 1), or of the two means (None), in bits for each image."""

    head: int | None
    other: int | None
    divergences: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """Mean and 95 % interval over the images, within the range of the divergence; null for a single image."""
        mean, half = interval(self.divergences.tolist())
        ends: tuple[float | None, float | None] = (None, None)
        if half is not None:
            ends = max(mean - half, 0.0), min(mean + half, MOST)
        heads = {} if self.head is None else {"head": self.head, "other": self.other}
        return {**heads, "divergence": mean, "low": ends[0], "high": ends[1]}

    @property
    def names(self) -> tuple[str, str]:
        """The two sides in words."""
        if self.head is None:
            return "mean", "mean"
        return f"head {self.head}", f"head {self.other}"


@dataclass(frozen=True)
class HeadMatching:
    """The matched heads of two encoders on the same images.

    Attributes:
        pairs: matched heads, in the order of the first encoder's.
        mean: the mean over all heads of each.
        any_two: mean divergence over all pairs of heads, to compare a match with.
        resampled: the grids that differed, in words; empty where none did.
        alone: how many heads of the encoder with more heads have no partner.
    """

    pairs: list[HeadPair]
    mean: HeadPair
    any_two: float
    resampled: str
    alone: int = 0

    def as_json(self) -> dict[str, Any]:
        """For ``stage.json``."""
        return {
            "unit": "bits",
            "mean": self.mean.as_json(),
            "heads": [pair.as_json() for pair in self.pairs],
            "any_two_heads": self.any_two,
            "resampled": self.resampled or None,
        }


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits of distributions over the last dimension: (..., N), (..., N) -> (...)."""
    m = ((p + q) / 2).clamp(min=torch.finfo(p.dtype).tiny)
    parts = torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)
    return (parts.sum(-1) / (2 * log(2))).clamp(0, MOST)


def distributions(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(heads, h, w) -> (heads, N) float64 that sum to 1, averaged to a grid that is no finer."""
    if tuple(maps.shape[1:]) != grid:
        maps = F.adaptive_avg_pool2d(maps[None], grid)[0]
    flat = maps.double().flatten(1)
    return flat / flat.sum(1, keepdim=True)


def match_heads(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> HeadMatching:
    """Match the heads of two encoders.

    The matched divergences are the smallest possible on these images, so they are optimistic; ``any_two`` is the
    divergence of heads that were not matched.

    Args:
        ours: the (heads, h, w) maps of each image; grids may differ.
        theirs: likewise, of the same images; where the two grids differ, both are averaged to the coarser one.
    """
    between, means, unequal = [], [], {}
    for a, b in zip(ours, theirs, strict=True):
        grid = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
        if a.shape[1:] != b.shape[1:]:
            shapes = (f"{rows} x {columns}" for rows, columns in (a.shape[1:], b.shape[1:], grid))
            unequal["{} and {} patches to {}".format(*shapes)] = None
        p, q = distributions(a, grid), distributions(b, grid)
        between.append(divergence(p[:, None], q[None]).numpy())
        p, q = (distributions(m.mean(0, keepdim=True), grid) for m in (a, b))
        means.append(float(divergence(p, q)))
    table = np.stack(between)  # (images, our heads, their heads)
    mine, other = linear_sum_assignment(table.mean(0))
    alone = abs(table.shape[1] - table.shape[2])
    pairs = [HeadPair(int(i) + 1, int(j) + 1, table[:, i, j]) for i, j in zip(mine, other, strict=True)]
    return HeadMatching(pairs, HeadPair(None, None, np.array(means)), float(table.mean()), "; ".join(unequal), alone)
