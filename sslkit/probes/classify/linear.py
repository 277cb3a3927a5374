"""Linear probe on frozen features: a sweep trained at once, chosen on held-out train, reported once on val.

All S settings (learning rates x weight decays) are trained in the same matrix products, see ``stacked``, by SGD with
momentum and a cosine schedule (arXiv:2104.14294, appendix). The setting that is best on a stratified tenth of train is
trained again on all of train; val is looked at once, at the end. Choosing by val, as much code does, reports the
luckiest setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit import rng
from sslkit.data.labels import by_class
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.linear_heads import Heads, cosine
from sslkit.probes.features.features import Features, check_pair, ranks_of_truth

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # per 256 images: times batch_size / 256
WEIGHT_DECAYS = (0.0, 1e-4, 1e-3, 1e-2)
HELD_OUT = 0.1


@dataclass(frozen=True)
class Settings:
    """How a probe is trained.

    Attributes:
        learning_rates: per 256 images, peak of the cosine schedule.
        weight_decays: L2, added to the gradient of the weights; the bias has none.
        epochs: passes over train.
        batch_size: images per step; at most an eighth of train, so that small sets get their steps too.
        standardize: subtract train's mean and divide by its standard deviation, per feature. The set of linear
            functions stays the same and no statistic of val is used, but features that are not centred (MAE,
            a random encoder) are learnt at the same learning rates as others. DINO's protocol has it off.
        seed: of the held-out part and the order of the images.
        few: labels are few on purpose: where no class has two of them, so that none can be held out to choose by,
            take the middle setting instead of refusing.
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


@dataclass(frozen=True)
class LinearResult:
    """What ``linear`` found; accuracies in percent.

    Attributes:
        top1: on val.
        top5: the same.
        predicted: (R,) int64, classes predicted for val's labelled rows.
        chosen: learning rate and weight decay.
        held_out_top1: what they were chosen by; None where nothing could be held out.
        sweep: one dict per setting: lr, weight_decay, held_out_top1.
        images: of train, that the reported head was trained on.
        weight: (C, D) of the head for raw features; standardising is folded in.
        bias: (C,).
    """

    top1: float
    top5: float
    predicted: np.ndarray
    chosen: dict[str, float]
    held_out_top1: float | None
    sweep: list[dict[str, float | None]]
    images: int
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Plan:
    """What is tried, learnt from and chosen by.

    Attributes:
        grid: S settings, (learning rate, weight decay).
        rest: rows of train to learn from while choosing, ascending.
        held: rows of train to choose by, ascending; empty where there is nothing to choose by, and one setting then.
    """

    grid: list[tuple[float, float]]
    rest: np.ndarray
    held: np.ndarray


def plan(train: Features, settings: Settings) -> Plan:
    """Hold a stratified tenth of train out; with ``settings.few`` fall back on the middle setting and all of train.

    Raises:
        UsageError: nothing to train.
        SslkitError: too few images to hold some out.
    """
    if settings.epochs < 1 or settings.batch_size < 1 or not settings.grid():
        raise UsageError("the linear probe needs at least one epoch, one image per step, and one setting")
    if settings.few and len(np.unique(train.labels)) == len(train):
        return Plan([settings.middle()], np.arange(len(train)), np.empty(0, np.int64))
    return Plan(settings.grid(), *hold_out(train.labels, HELD_OUT, settings.seed))


def linear(
    train: Features,
    val: Features,
    settings: Settings,
    device: torch.device | None = None,
    progress: bool = False,
) -> LinearResult:
    """Sweep, choose, train again, report.

    Args:
        train: R labelled rows.
        val: labelled rows; used once, at the end.
        settings: the sweep.
        device: where the head is trained; None is the CPU.
        progress: show bars on standard error.

    Raises:
        SslkitError: one class only, NaN, different widths, too few images to hold some out.
    """
    classes, planned = check_pair(train, val), plan(train, settings)
    device = device or torch.device("cpu")
    mean, scale = statistics(train, settings.standardize)
    titles = ("linear: sweep", "linear: final") if progress else ("", "")
    grid, everything = planned.grid, np.arange(len(train))
    heads = fit(train, planned.rest, classes, grid, settings, mean, scale, device, titles[0])
    accuracy = held_out_accuracy(heads, train, planned.held, mean, scale)
    chosen = [grid[best_of(accuracy)]]
    final = fit(train, everything, classes, chosen, settings, mean, scale, device, titles[1])
    return judge(final.fold(0, mean, scale), val, planned, accuracy, len(train))


def held_out_accuracy(
    heads: Heads, train: Features, held: np.ndarray, mean: Tensor, scale: Tensor
) -> list[float | None]:
    """Accuracy in percent of every setting on the held-out rows of train; 0 for one that diverged, None without rows.

    Raises:
        SslkitError: all settings diverged.
    """
    whole = heads.whole()
    if not whole.any():
        raise SslkitError("every setting of the linear probe diverged: try a smaller --lr, or --standardize")
    if not len(held):
        return [None] * heads.count
    hits = torch.zeros(heads.count, dtype=torch.int64, device=heads.device)
    mean, scale = mean.to(heads.device), scale.to(heads.device)
    for start in range(0, len(held), 4096):
        index = held[start : start + 4096]
        rows = (train.take(index).to(heads.device) - mean) * scale
        hits += heads.hits(rows, torch.from_numpy(train.labels[index]).to(heads.device))
    return ((hits * whole).cpu().double() * 100 / len(held)).tolist()


def best_of(accuracy: Sequence[float | None]) -> int:
    """The best setting. The first of equals: the smaller learning rate, then the smaller decay."""
    return max(range(len(accuracy)), key=lambda setting: accuracy[setting] or 0)


def judge(
    head: tuple[Tensor, Tensor], val: Features, planned: Plan, accuracy: Sequence[float | None], images: int
) -> LinearResult:
    """Look at val, once.

    Args:
        head: weight (C, D) and bias (C,) for raw features.
        val: labelled rows.
        planned: with the grid that the head was chosen from.
        accuracy: of every setting on held-out train.
        images: of train, that the head was trained on.

    Raises:
        SslkitError: the head diverged.
    """
    weight, bias = head
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise SslkitError("the linear probe diverged on all of train: try a smaller --lr, or --standardize")
    best, predicted, ranks = best_of(accuracy), np.empty(len(val), np.int64), []
    for where, rows in val.chunks():
        scores = rows @ weight.T + bias
        ranks.append(ranks_of_truth(scores, torch.from_numpy(val.labels[where])))
        # NumPy's argmax takes the first of equals, as the ranks do.
        predicted[where] = scores.numpy().argmax(1)
    rank = torch.cat(ranks)
    return LinearResult(
        top1=100 * int((rank < 1).sum()) / len(val),
        top5=100 * int((rank < 5).sum()) / len(val),
        predicted=predicted,
        chosen={"lr": planned.grid[best][0], "weight_decay": planned.grid[best][1]},
        held_out_top1=accuracy[best],
        sweep=[
            {"lr": lr, "weight_decay": decay, "held_out_top1": percent}
            for (lr, decay), percent in zip(planned.grid, accuracy, strict=True)
        ],
        images=images,
        weight=weight,
        bias=bias,
    )


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into (rest, held out), the same share of every class, each part ascending.

    A class of one image stays in the rest. Each class draws from its own stream, so another class changes nothing.

    Raises:
        SslkitError: no class has two images.
    """
    held = []
    for label, members in by_class(labels):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.append(rng.generator(seed, "linear/held-out", label).permutation(members)[:count])
    out = np.sort(np.concatenate(held))
    if not len(out):
        raise SslkitError(f"train has {len(labels)} labelled images, one per class: none can be held out to choose by")
    return np.setdiff1d(np.arange(len(labels)), out), out


def statistics(train: Features, standardize: bool) -> tuple[Tensor, Tensor]:
    """Mean (D,) and 1 / standard deviation (D,) of train, 0 and 1 when not asked for; refuses NaN either way."""
    total = torch.zeros(train.width, dtype=torch.float64)
    square = torch.zeros_like(total)
    for _, rows in train.chunks():
        if standardize:
            rows = rows.double()
            total += rows.sum(0)
            square += rows.square().sum(0)
    if not standardize:
        return torch.zeros(train.width), torch.ones(train.width)
    mean = total / len(train)
    # A feature that never changes is left as it is: nothing to divide by, nothing to learn from.
    deviation = (square / len(train) - mean.square()).clamp_min(0).sqrt()
    constant = deviation <= 1e-6 * (mean.abs() + 1e-6)
    return mean.float(), torch.where(constant, 1.0, 1 / deviation).float()


def fit(
    train: Features,
    positions: np.ndarray,
    classes: int,
    grid: Sequence[tuple[float, float]],
    settings: Settings,
    mean: Tensor,
    scale: Tensor,
    device: torch.device,
    title: str = "",
) -> Heads:
    """Train one head per (learning rate, weight decay), all in the same matrix products, from zero.

    Args:
        train: the features.
        positions: rows of ``train`` to learn from.
        classes: C.
        grid: S settings.
        settings: epochs, batch size, seed.
        mean: (D,) subtracted from every row.
        scale: (D,) multiplied after it.
        device: where.
        title: of the progress bar; empty shows none.
    """
    batch = batch_of(settings, len(positions))
    heads = Heads(grid, classes, train.width, batch, device)
    mean, scale = mean.to(device), scale.to(device)
    steps_per_epoch = len(positions) // batch
    steps, step = settings.epochs * steps_per_epoch, 0
    bar = tqdm(total=settings.epochs, desc=title, unit=" epochs", disable=None if title else True, leave=False)
    for epoch in range(settings.epochs):
        order = positions[rng.generator(settings.seed, "linear/order", epoch).permutation(len(positions))]
        for index in order[: steps_per_epoch * batch].reshape(steps_per_epoch, batch):
            rows = train.take(index).to(device).sub_(mean).mul_(scale)
            heads.step(rows, torch.from_numpy(train.labels[index]).to(device), cosine(step, steps))
            step += 1
        bar.update()
    bar.close()
    return heads


def batch_of(settings: Settings, images: int) -> int:
    """Images per step: what was asked for, at most an eighth of the images."""
    return min(settings.batch_size, -(-images // 8))


def describe(result: LinearResult, settings: Settings, features: str, val: int) -> dict[str, Any]:
    """``linear/results.json``."""
    return {
        "top1": result.top1,
        "top5": result.top5,
        "chosen": result.chosen,
        "held_out_top1": result.held_out_top1,
        "features": features,
        "standardize": settings.standardize,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "train_images": result.images,
        "val_images": val,
        "sweep": result.sweep,
    }
