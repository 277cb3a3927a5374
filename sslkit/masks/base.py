"""What every masking strategy has in common: how much is hidden, of which crops, and from which random numbers.

Ratios and coins are drawn on the host, keyed by (seed, step, sample, view): the number of hidden tokens is known
without asking the device, and neither workers nor processes nor a resume change it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import UsageError
from sslkit.recipe.sections import MaskSection


@dataclass(frozen=True)
class Masks:
    """The masks of a batch of crops."""

    mask: Tensor  # (C, N) bool on the device, True = hidden
    counts: np.ndarray  # (C,) int64 on the host, hidden tokens of each crop

    def to(self, device: torch.device) -> "Masks":
        """The same masks on a device; ``counts`` stays on the host."""
        return Masks(self.mask.to(device, non_blocking=True), self.counts)

    @cached_property
    def index(self) -> Tensor:
        """(M,) int64 on the device: hidden tokens in the flattened (C x N) order; M is known from ``counts``."""
        # A stable sort, not nonzero(), which would wait for the device to know the size of its output.
        order = self.mask.flatten().to(torch.uint8).argsort(descending=True, stable=True)
        return order[: int(self.counts.sum())]

    @cached_property
    def padded_index(self) -> Tensor:
        """``index``, padded with token 0 until the length is a multiple of 1/32 of all tokens.

        Matrix libraries prepare and keep a kernel for every shape they meet. With a new number of hidden tokens in each
        step, a CPU run took 4 GB more after a few hundred steps; with about 16 different lengths it does not.
        """
        total = int(self.counts.sum())
        return F.pad(self.index, (0, -total % max(1, self.mask.numel() // 32)))

    @cached_property
    def token_weights(self) -> Tensor:
        """(M,) float32 on the device: 1 / (hidden tokens of the token's crop), in the order of ``index``."""
        weights = np.repeat(1.0 / np.maximum(self.counts, 1), self.counts)
        return torch.from_numpy(weights.astype(np.float32)).to(self.mask.device, non_blocking=True)


@dataclass(frozen=True)
class Crops:
    """What a strategy chooses from. C crops of N patches each, view by view."""

    counts: np.ndarray  # (C,) int64, how many tokens to hide of each crop; 0 must hide none
    grid: tuple[int, int]  # patch rows and columns; N is their product
    generators: Sequence[np.random.Generator]  # one for each crop
    shared: np.random.Generator  # the same for every crop and process of this step
    attention: Tensor | None = None  # (C, N) the teacher's, from CLS, mean over heads; given when ``needs_attention``
    objects: Tensor | None = None  # (C, N) float32, share of a patch that the object covers; when ``needs_objects``

    @property
    def patches(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]


class Masking(MaskSection, ABC):
    """A strategy; its fields are the keys of the recipe's ``mask`` section."""

    needs_attention: ClassVar[bool] = False
    needs_objects: ClassVar[bool] = False

    def check(self, patches: int) -> None:
        """Refuse masks that would hide nothing of any crop of ``patches`` patches, or everything of every one.

        Raises:
            UsageError: ``mask.ratio``, rounded down to whole patches, or ``mask.probability`` says so.
        """
        fewest, most = (int(ratio * patches) for ratio in self.ratio)
        if self.probability == 0:
            raise UsageError("mask.probability is 0: the masks hide nothing; raise it, or use a recipe without masks")
        if not most:
            raise UsageError(
                f"mask.ratio {list(self.ratio)} hides none of {patches} patches: it must reach {1 / patches:.3g}"
            )
        if fewest >= patches and self.probability == 1:
            raise UsageError(f"mask.ratio {list(self.ratio)} hides all of {patches} patches of every crop: lower it")

    @abstractmethod
    def choose(self, crops: Crops) -> Masks:
        """Choose which tokens to hide: as many of each crop as ``crops.counts`` says, or fewer."""

    def draw(
        self,
        seed: int,
        step: int,
        samples: np.ndarray,
        views: int,
        grid: tuple[int, int],
        attention: Tensor | None = None,
        objects: Tensor | None = None,
    ) -> Masks:
        """Masks of the V x B global crops of a batch, view by view.

        Args:
            seed: the run's.
            step: the optimizer step.
            samples: (B,) indices of the images in the dataset.
            views: V, global crops of each image.
            grid: patch rows and columns.
            attention: (V x B, N) on the device, view by view, when ``needs_attention``.
            objects: (V x B, N) on the device, when ``needs_objects``.
        """
        if self.needs_attention and attention is None:
            raise UsageError(f"mask.strategy {self.strategy} needs a teacher's attention: add a teacher to the recipe")
        if self.needs_objects and objects is None:
            raise UsageError(f"mask.strategy {self.strategy} needs images with true object masks, such as shapes")
        shared = rng.generator(seed, "mask-step", step)
        step_ratio = shared.uniform(*self.ratio)
        generators = [rng.generator(seed, "mask", step, int(s), view) for view in range(views) for s in samples]
        counts = np.empty(len(generators), dtype=np.int64)
        for index, generator in enumerate(generators):
            coin, own_ratio = generator.random(), generator.uniform(*self.ratio)
            ratio = step_ratio if self.ratio_per == "step" else own_ratio
            counts[index] = int(ratio * grid[0] * grid[1]) if coin < self.probability else 0
        return self.choose(Crops(counts, grid, generators, shared, attention, objects))

    def draw_exact(
        self,
        seed: int,
        step: int,
        samples: np.ndarray,
        views: int,
        grid: tuple[int, int],
        attention: Tensor | None = None,
        objects: Tensor | None = None,
    ) -> Masks:
        """As ``draw``, with int(ratio x N) hidden tokens in every crop: one ratio for the step and no coin.

        For encoders that leave hidden tokens out, as MAE's does (arXiv:2111.06377): their input must be equally long
        for every crop. A crop that hides fewer is topped up at random; where there is attention, with its least
        attended visible tokens, so that those a hint reveals, the most attended ones, stay visible.
        """
        masks = self.draw(seed, step, samples, views, grid, attention, objects)
        count = int(rng.generator(seed, "mask-step", step).uniform(*self.ratio) * grid[0] * grid[1])
        if (masks.counts == count).all():
            return masks
        if attention is not None:
            return exact(masks, count, -attention)
        generators = [rng.generator(seed, "mask-exact", step, int(s), view) for view in range(views) for s in samples]
        preference = np.stack([generator.random(grid[0] * grid[1]) for generator in generators])
        return exact(masks, count, torch.from_numpy(preference).to(masks.mask.device, non_blocking=True))


def rank(attention: Tensor) -> Tensor:
    """(C, N) -> (C, N) int64: 0 for the largest value of a row, N - 1 for the smallest; ties by position."""
    return attention.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def first(ranks: Tensor, counts: np.ndarray) -> Tensor:
    """(C, N) or (N,) ranks -> (C, N) bool: as many of the lowest in each row as ``counts`` (C,) on the host says."""
    return ranks < torch.from_numpy(counts).to(ranks.device, non_blocking=True)[:, None]


def exact(masks: Masks, count: int, preference: Tensor) -> Masks:
    """Masks that all hide ``count`` tokens: trimmed, or topped up.

    Args:
        masks: of C crops.
        count: in [0, N].
        preference: (C, N); among a crop's hidden tokens those of largest preference stay hidden, and among its visible
            ones those are hidden first.
    """
    order = preference.argsort(dim=1, descending=True, stable=True)
    hidden_first = masks.mask.gather(1, order).to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(masks.mask.shape[1], device=order.device).expand_as(order) < count
    mask = torch.zeros_like(masks.mask).scatter(1, order.gather(1, hidden_first), chosen)
    return Masks(mask, np.full(len(mask), count, dtype=np.int64))
