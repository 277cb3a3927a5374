"""What a linear probe tries, and how it chooses: a grid of settings, compared on a held-out tenth of train."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from sslkit.data.class_balanced import by_class, held_out
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.linear_heads import LinearHeads
from sslkit.probes.features.features import Features

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # per 256 images: times batch_size / 256
WEIGHT_DECAYS = (0.0, 1e-4, 1e-3, 1e-2)
HELD_OUT = 0.1
ROWS = 4096  # evaluated at once


@dataclass(frozen=True)
class LinearSettings:
    """How a linear probe is trained.

    Attributes:
        learning_rates: per 256 images, peak of the cosine schedule.
        weight_decays: L2, added to the gradient of the weights; the bias has none.
        epochs: passes over train.
        batch_size: images per step; at most an eighth of train, so that small sets get enough steps.
        standardize: subtract train's mean and divide by its standard deviation, per feature. The set of linear
            functions stays the same and no statistic of val is used, but features that are not centred (MAE,
            a random encoder) train at the same learning rates as others. DINO's protocol has it off.
        seed: of the held-out part and the order of the images.
        few: labels are few on purpose: where every class has only one, so that none can be held out, use the middle
            setting instead of raising an error.
    """

    learning_rates: Sequence[float] = LEARNING_RATES
    weight_decays: Sequence[float] = WEIGHT_DECAYS
    epochs: int = 100
    batch_size: int = 1024
    standardize: bool = True
    seed: int = 0
    few: bool = False

    def grid(self) -> list[tuple[float, float]]:
        """(learning rate, weight decay) of every setting, in the order of the sweep."""
        return list(product(self.learning_rates, self.weight_decays))

    def middle(self) -> tuple[float, float]:
        """The setting in the middle of both ranges; the lower of two."""
        rates, decays = sorted(self.learning_rates), sorted(self.weight_decays)
        return rates[(len(rates) - 1) // 2], decays[(len(decays) - 1) // 2]

    def images_per_step(self, images: int) -> int:
        """``batch_size``, but at most an eighth of the images."""
        return min(self.batch_size, -(-images // 8))


@dataclass(frozen=True)
class LinearSweep:
    """The settings to compare, and the rows of train to compare them on.

    Attributes:
        grid: S settings, (learning rate, weight decay).
        rest: rows of train to learn from during the sweep, ascending.
        held: rows of train to choose by, ascending; empty where none can be held out, and then S is 1.
    """

    grid: list[tuple[float, float]]
    rest: np.ndarray
    held: np.ndarray


def plan_sweep(train: Features, settings: LinearSettings) -> LinearSweep:
    """Hold out a stratified tenth of train; with ``settings.few`` fall back to the middle setting and all of train.

    Raises:
        UsageError: nothing to train.
        SslkitError: too few images to hold some out.
    """
    if settings.epochs < 1 or settings.batch_size < 1 or not settings.grid():
        raise UsageError("the linear probe needs at least one epoch, one image per step, and one setting")
    if settings.few and len(np.unique(train.labels)) == len(train):
        return LinearSweep([settings.middle()], np.arange(len(train)), np.empty(0, np.int64))
    return LinearSweep(settings.grid(), *hold_out(train.labels, HELD_OUT, settings.seed))


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into (rest, held out): the same share of every class, each part ascending.

    A class of one image stays in the rest.

    Raises:
        SslkitError: no class has two images.
    """
    out = held_out(by_class(labels), share, "linear/held-out", seed)
    if not len(out):
        raise SslkitError(f"train has {len(labels)} labelled images, one per class: none can be held out to choose by")
    return np.setdiff1d(np.arange(len(labels)), out), out


def held_out_accuracy(
    heads: LinearHeads, train: Features, held: np.ndarray, mean: Tensor, scale: Tensor
) -> list[float | None]:
    """Accuracy in percent of every setting on held-out rows of train: 0 if it diverged, None if there are no rows.

    Raises:
        SslkitError: all settings diverged.
    """
    finite = heads.finite()
    if not finite.any():
        raise SslkitError("every setting of the linear probe diverged: try a smaller --lr, or --standardize")
    if not len(held):
        return [None] * heads.count
    hits = torch.zeros(heads.count, dtype=torch.int64, device=heads.device)
    mean, scale = mean.to(heads.device), scale.to(heads.device)
    for start in range(0, len(held), ROWS):
        index = held[start : start + ROWS]
        rows = (train.take(index).to(heads.device) - mean) * scale
        hits += heads.hits(rows, torch.from_numpy(train.labels[index]).to(heads.device))
    return ((hits * finite).cpu().double() * 100 / len(held)).tolist()


def best_setting(accuracy: Sequence[float | None]) -> int:
    """Index of the best setting; among equals the first: the smaller learning rate, then the smaller decay."""
    return max(range(len(accuracy)), key=lambda setting: accuracy[setting] or 0)
