"""Two encoders' attention to the same images: heads matched, and how far apart they are.

The distance is the Jensen-Shannon divergence (doi:10.1109/18.61115) of two maps as distributions over the patches, in
bits: 0 for equal ones, 1 for such as share no patch. Heads have no order, so each is paired with one of the other's
such that the sum of the divergences, each a mean over the images, is the smallest (the assignment problem).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from sslkit.encoder.encoder import Encoder
from sslkit.plots.attention.look import Look
from sslkit.plots.attention.maps import heat
from sslkit.plots.sheet import PAPER, Tile, fit
from sslkit.statistics.intervals import interval

MOST = 1.0  # bits: the divergence of maps that share no patch
SEAM = 4  # pixels between the two pictures of a pair


@dataclass(frozen=True)
class Other:
    """The second encoder.

    Attributes:
        name: how it is called on the page.
        encoder: in eval mode, on the look's device.
        look: at what size it sees the images, with its own normalisation.
    """

    name: str
    encoder: Encoder
    look: Look


@dataclass(frozen=True)
class Pair:
    """A divergence in bits for each image, of two heads (counted from 1) or of the two means (None)."""

    head: int | None
    other: int | None
    divergences: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """Mean and 95 % interval over the images, within what the divergence can be; null for a single image."""
        mean, half = interval(self.divergences.tolist())
        ends: tuple[float | None, float | None] = (None, None)
        if half is not None:
            ends = max(mean - half, 0.0), min(mean + half, MOST)
        heads = {} if self.head is None else {"head": self.head, "other": self.other}
        return {**heads, "divergence": mean, "low": ends[0], "high": ends[1]}

    @property
    def names(self) -> tuple[str, str]:
        """What is compared, here and there, in words."""
        if self.head is None:
            return "mean", "mean"
        return f"head {self.head}", f"head {self.other}"


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same images.

    Attributes:
        pairs: matched heads, by the first encoder's number.
        mean: the means of all heads.
        any_two: mean divergence of all pairs of heads, what a match is to be measured by.
        resampled: grids that were unequal, in words; empty where none were.
        alone: how many heads of the encoder that has more have no partner.
    """

    pairs: list[Pair]
    mean: Pair
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
    """(heads, h, w) -> (heads, N) float64 that sum to 1, averaged to a grid that is not finer."""
    if tuple(maps.shape[1:]) != grid:
        maps = F.adaptive_avg_pool2d(maps[None], grid)[0]
    flat = maps.double().flatten(1)
    return flat / flat.sum(1, keepdim=True)


def compare(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Comparison:
    """Match the heads of two encoders.

    The matched divergences are the smallest that could be found on these images, so they flatter; ``any_two`` is what
    heads have in common that nobody matched.

    Args:
        ours: of each image (heads, h, w); grids may differ.
        theirs: likewise, of the same images; where its grid differs both are averaged to the coarser.
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
    pairs = [Pair(int(i) + 1, int(j) + 1, table[:, i, j]) for i, j in zip(mine, other, strict=True)]
    return Comparison(pairs, Pair(None, None, np.array(means)), float(table.mean()), "; ".join(unequal), alone)


def pair_tiles(comparison: Comparison, number: int, ours: Tensor, theirs: Tensor, size: tuple[int, int]) -> list[Tile]:
    """Image ``number``: the two means and each matched pair of heads next to each other, ours on the left."""
    tiles = []
    for pair in [comparison.mean, *comparison.pairs]:
        both = [m.mean(0) if head is None else m[head - 1] for m, head in ((ours, pair.head), (theirs, pair.other))]
        name = f"{pair.names[0]} | {pair.names[1]}"
        tiles.append(Tile(f"{name}, {pair.divergences[number]:.2g} bits", _beside(both, size)))
    return tiles


def _beside(maps: Sequence[Tensor], size: tuple[int, int]) -> Image.Image:
    height, width = size
    picture = Image.new("RGB", (2 * width + SEAM, height), PAPER)
    for left, values in zip((0, width + SEAM), maps, strict=True):
        picture.paste(fit(heat(values), width, height, nearest=True), (left, 0))
    return picture
