"""The attention heads of two encoders, matched on the same images.

The distance is the Jensen-Shannon divergence (doi:10.1109/18.61115) of two maps as distributions over the patches, in
bits: 0 for equal maps, 1 for maps that share no patch. Heads have no order, so each is paired with a head of the other
encoder such that the sum of the divergences, each a mean over the images, is minimal (the assignment problem).
"""

from collections.abc import Mapping, Sequence
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
        low, high = (None, None) if half is None else (max(mean - half, 0.0), min(mean + half, MOST))
        heads = {} if self.head is None else {"head": self.head, "other": self.other}
        return {**heads, "divergence": mean, "low": low, "high": high}

    @property
    def names(self) -> tuple[str, str]:
        """The two sides in words."""
        return ("mean", "mean") if self.head is None else (f"head {self.head}", f"head {self.other}")


def in_words(pair: Mapping[str, Any]) -> list[str]:
    """The divergence of a pair, from its JSON, and its interval."""
    ends = "none for one image" if pair["low"] is None else f"{pair['low']:.3g} to {pair['high']:.3g}"
    return [f"{pair['divergence']:.3g}", ends]


@dataclass(frozen=True)
class HeadMatching:
    """The matched heads of two encoders on the same images."""

    pairs: list[HeadPair]  # in the order of the first encoder's heads
    mean: HeadPair  # of the means over all heads
    any_two: float  # mean divergence over all pairs of heads, to compare a match with
    resampled: str  # the grids that differed, in words; empty if none did
    alone: int = 0  # heads without a partner, of the encoder with more heads

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

    The matched divergences are optimistic, because they are the smallest possible on these images.

    Args:
        ours: the (heads, h, w) maps of each image; grids may differ.
        theirs: likewise, of the same images; if the two grids of an image differ, both are averaged to the coarser one.
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
