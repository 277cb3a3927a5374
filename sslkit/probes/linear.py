"""Linear probe on frozen features: a sweep trained at once, chosen on held-out train, reported once on val.

All S settings (learning rates x weight decays) are one head of S x C outputs: one matrix product forward and one
backward per step serve them all, and SGD with momentum and a cosine schedule (arXiv:2104.14294, appendix) runs on
the stacked weights. The setting that is best on a stratified tenth of train is trained again on all of train; val
is looked at once, at the end. Choosing by val, as much code does, reports the luckiest setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit import rng
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.features import Features, check_pair, ranks_of_truth

LEARNING_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # per 256 images: times batch_size / 256
WEIGHT_DECAYS = (0.0, 1e-4, 1e-3, 1e-2)
HELD_OUT = 0.1
MOMENTUM = 0.9


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
    """

    learning_rates: Sequence[float] = LEARNING_RATES
    weight_decays: Sequence[float] = WEIGHT_DECAYS
    epochs: int = 100
    batch_size: int = 1024
    standardize: bool = True
    seed: int = 0

    def grid(self) -> list[tuple[float, float]]:
        """(learning rate, weight decay) of every setting, in the order of the sweep."""
        return list(product(self.learning_rates, self.weight_decays))


@dataclass(frozen=True)
class LinearResult:
    """What ``linear`` found; accuracies in percent.

    Attributes:
        top1: on val, of the chosen setting trained on all of train.
        top5: the same.
        chosen: learning rate and weight decay.
        held_out_top1: what they were chosen by.
        sweep: one dict per setting: lr, weight_decay, held_out_top1.
        weight: (C, D) of the head for raw features; standardising is folded in.
        bias: (C,).
    """

    top1: float
    top5: float
    chosen: dict[str, float]
    held_out_top1: float
    sweep: list[dict[str, float]]
    weight: Tensor
    bias: Tensor


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
    classes = check_pair(train, val)
    if settings.epochs < 1 or settings.batch_size < 1 or not settings.grid():
        raise UsageError("the linear probe needs at least one epoch, one image per step, and one setting")
    device = device or torch.device("cpu")
    rest, held = hold_out(train.labels, HELD_OUT, settings.seed)
    grid = settings.grid()
    mean, scale = _statistics(train, settings.standardize)
    heads = fit(train, rest, classes, grid, settings, mean, scale, device, "linear: sweep" if progress else "")
    accuracy = _top1_per_setting(train, held, heads, mean, scale)
    # The first of equals: the smaller learning rate, then the smaller decay.
    best = int(accuracy.argmax())
    everything = np.arange(len(train))
    final = fit(
        train, everything, classes, [grid[best]], settings, mean, scale, device, "linear: final" if progress else ""
    )
    weight = (final.weight[0] * scale.to(device)).cpu()
    bias = (final.bias[0].cpu().double() - weight.double() @ mean.double()).float()
    ranks = torch.cat(
        [
            ranks_of_truth(rows @ weight.T + bias, torch.from_numpy(val.labels[where]))
            for where, rows in val.chunks(settings.batch_size)
        ]
    )
    return LinearResult(
        top1=100 * int((ranks < 1).sum()) / len(val),
        top5=100 * int((ranks < 5).sum()) / len(val),
        chosen={"lr": grid[best][0], "weight_decay": grid[best][1]},
        held_out_top1=float(accuracy[best]),
        sweep=[
            {"lr": lr, "weight_decay": decay, "held_out_top1": float(percent)}
            for (lr, decay), percent in zip(grid, accuracy, strict=True)
        ],
        weight=weight,
        bias=bias,
    )


@dataclass(frozen=True)
class Heads:
    """S linear heads. ``weight`` is (S, C, D), ``bias`` (S, C), both for features after standardising."""

    weight: Tensor
    bias: Tensor


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into (rest, held out), the same share of every class, each part ascending.

    A class of one image stays in the rest. Each class draws from its own stream, so another class changes nothing.

    Raises:
        SslkitError: no class has two images.
    """
    held = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held.append(rng.generator(seed, "linear/held-out", int(label)).permutation(members)[:count])
    out = np.sort(np.concatenate(held))
    if not len(out):
        raise SslkitError(f"train has {len(labels)} labelled images, one per class: none can be held out to choose by")
    return np.setdiff1d(np.arange(len(labels)), out), out


def _statistics(train: Features, standardize: bool) -> tuple[Tensor, Tensor]:
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

    Each head moves as ``torch.optim.SGD(momentum=0.9)`` would move it alone. A setting that diverges spoils no other:
    no arithmetic mixes the rows of two settings.

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
    count, width = len(grid), train.width
    batch = min(settings.batch_size, -(-len(positions) // 8))
    peak = torch.tensor([lr for lr, _ in grid], device=device).mul(batch / 256)[:, None].repeat_interleave(classes, 0)
    decay = torch.tensor([wd for _, wd in grid], device=device)[:, None].repeat_interleave(classes, 0)
    weight = torch.zeros(count * classes, width, device=device)
    bias = torch.zeros(count * classes, 1, device=device)
    momentum, bias_momentum = torch.zeros_like(weight), torch.zeros_like(bias)
    mean, scale = mean.to(device), scale.to(device)
    steps_per_epoch = len(positions) // batch
    steps, step = settings.epochs * steps_per_epoch, 0
    bar = tqdm(total=settings.epochs, desc=title, unit=" epochs", disable=None if title else True, leave=False)
    for epoch in range(settings.epochs):
        order = positions[rng.generator(settings.seed, "linear/order", epoch).permutation(len(positions))]
        for index in order[: steps_per_epoch * batch].reshape(steps_per_epoch, batch):
            rows = train.take(index).to(device).sub_(mean).mul_(scale)
            truth = torch.from_numpy(train.labels[index]).to(device)
            error = _softmax_error(torch.addmm(bias.T, rows, weight.T), truth, count)  # (B, S * C)
            rate = peak * (0.5 * (1 + cos(pi * step / steps)))
            momentum.mul_(MOMENTUM).addmm_(error.T, rows).addcmul_(weight, decay)
            bias_momentum.mul_(MOMENTUM).add_(error.sum(0)[:, None])
            weight.addcmul_(momentum, rate, value=-1)
            bias.addcmul_(bias_momentum, rate, value=-1)
            step += 1
        bar.update()
    bar.close()
    return Heads(weight.view(count, classes, width), bias.view(count, classes))


def _softmax_error(logits: Tensor, truth: Tensor, settings: int) -> Tensor:
    """Gradient of the mean cross-entropy of each setting by its logits: (softmax - one-hot) / B, (B, S * C)."""
    batch = len(logits)
    error = logits.view(batch, settings, -1).softmax(-1)
    where = truth[:, None, None].expand(batch, settings, 1)
    error.scatter_add_(2, where, error.new_full((1, 1, 1), -1.0).expand(batch, settings, 1))
    return error.view(batch, -1).div_(batch)


def _top1_per_setting(train: Features, positions: np.ndarray, heads: Heads, mean: Tensor, scale: Tensor) -> np.ndarray:
    """Accuracy in percent of every setting on some rows of train; 0 for one that diverged."""
    count, classes, width = heads.weight.shape
    device = heads.weight.device
    hits = torch.zeros(count, dtype=torch.int64, device=device)
    for start in range(0, len(positions), 4096):
        index = positions[start : start + 4096]
        rows = (train.take(index).to(device) - mean.to(device)) * scale.to(device)
        logits = rows @ heads.weight.view(-1, width).T + heads.bias.view(1, -1)
        truth = torch.from_numpy(train.labels[index]).to(device)
        hits += (logits.view(len(index), count, classes).argmax(-1) == truth[:, None]).sum(0)
    whole = torch.isfinite(heads.weight).flatten(1).all(1) & torch.isfinite(heads.bias).all(1)
    return (hits * whole).cpu().numpy() * 100 / len(positions)


def describe(result: LinearResult, settings: Settings, features: str, train: int, val: int) -> dict[str, Any]:
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
        "train_images": train,
        "val_images": val,
        "sweep": result.sweep,
    }
