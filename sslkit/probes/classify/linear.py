"""Linear probe on frozen features: a sweep trained at once, chosen on held-out train, reported once on val.

All S settings (learning rates x weight decays) are trained in the same matrix products, see ``linear_heads``, by SGD
with momentum and a cosine schedule (arXiv:2104.14294, appendix). The setting that is best on a stratified tenth of
train is trained again on all of train; val is evaluated once, at the end. Choosing by val, as much code does, reports
the luckiest setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sslkit import rng
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear_heads import LinearHeads, cosine
from sslkit.probes.classify.linear_sweep import LinearSettings, LinearSweep, best_setting, held_out_accuracy, plan_sweep
from sslkit.probes.features.features import Features, check_pair, ranks_of_truth


@dataclass(frozen=True)
class LinearResult:
    """The chosen head and its accuracies, in percent."""

    top1: float  # on val
    top5: float
    predicted: np.ndarray  # (R,) int64, classes of val's labelled rows
    chosen: dict[str, float]  # lr and weight_decay
    held_out_top1: float | None  # what they were chosen by; None where nothing could be held out
    sweep: list[dict[str, float | None]]  # per setting: lr, weight_decay, held_out_top1
    images: int  # of train, that the reported head was trained on
    held: int  # images of train that the setting was chosen by
    weight: Tensor  # (C, D), for raw features: standardisation is folded in
    bias: Tensor  # (C,)

    def summary(self, settings: LinearSettings, features: str) -> dict[str, Any]:
        """``linear/results.json``; ``features`` is their name, such as ``CLS of last 4``."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "chosen": self.chosen,
            "held_out_top1": self.held_out_top1,
            "features": features,
            "standardize": settings.standardize,
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "train_images": self.images,
            "held_out_images": self.held,
            "val_images": len(self.predicted),
            "sweep": self.sweep,
        }


def linear(
    train: Features, val: Features, settings: LinearSettings, device: torch.device | None = None, progress: bool = False
) -> LinearResult:
    """Sweep, choose, train again, evaluate; ``val`` is used once, at the end.

    Raises:
        SslkitError: one class only, NaN, different widths, too few images to hold some out.
    """
    classes, sweep = check_pair(train, val), plan_sweep(train, settings)
    device = device or torch.device("cpu")
    mean, scale = statistics(train, settings.standardize)
    titles = ("linear: sweep", "linear: final") if progress else ("", "")
    heads = fit(train, sweep.rest, classes, sweep.grid, settings, mean, scale, device, titles[0])
    accuracy = held_out_accuracy(heads, train, sweep.held, mean, scale)
    chosen = [sweep.grid[best_setting(accuracy)]]
    final = fit(train, np.arange(len(train)), classes, chosen, settings, mean, scale, device, titles[1])
    return evaluate(final.fold(0, mean, scale), val, sweep, accuracy, len(train))


def evaluate(
    head: tuple[Tensor, Tensor], val: Features, sweep: LinearSweep, accuracy: Sequence[float | None], images: int
) -> LinearResult:
    """Evaluate the chosen head on val, once.

    Args:
        head: weight (C, D) and bias (C,) for raw features.
        val: labelled rows.
        sweep: the grid that the head was chosen from.
        accuracy: percent of held-out train, by setting.
        images: of train, that the head was trained on.

    Raises:
        SslkitError: the head diverged.
    """
    weight, bias = head
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise SslkitError("the linear probe diverged on all of train: try a smaller --lr, or --standardize")
    best, predicted, ranks = best_setting(accuracy), np.empty(len(val), np.int64), []
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
        chosen={"lr": sweep.grid[best][0], "weight_decay": sweep.grid[best][1]},
        held_out_top1=accuracy[best],
        sweep=[
            {"lr": lr, "weight_decay": decay, "held_out_top1": percent}
            for (lr, decay), percent in zip(sweep.grid, accuracy, strict=True)
        ],
        images=images,
        held=len(sweep.held),
        weight=weight,
        bias=bias,
    )


def statistics(train: Features, standardize: bool) -> tuple[Tensor, Tensor]:
    """Mean (D,) and 1 / standard deviation (D,) of train; 0 and 1 without ``standardize``.

    Raises:
        SslkitError: a row holds NaN or infinity.
    """
    total, square = torch.zeros(2, train.width, dtype=torch.float64)
    for _, rows in train.chunks():
        if standardize:
            rows = rows.double()
            total += rows.sum(0)
            square += rows.square().sum(0)
    if not standardize:
        return torch.zeros(train.width), torch.ones(train.width)
    mean = total / len(train)
    # A constant feature is left as it is: there is nothing to divide by and nothing to learn from it.
    deviation = (square / len(train) - mean.square()).clamp_min(0).sqrt()
    constant = deviation <= 1e-6 * (mean.abs() + 1e-6)
    return mean.float(), torch.where(constant, 1.0, 1 / deviation).float()


def fit(
    train: Features,
    positions: np.ndarray,
    classes: int,
    grid: Sequence[tuple[float, float]],
    settings: LinearSettings,
    mean: Tensor,
    scale: Tensor,
    device: torch.device,
    title: str = "",
) -> LinearHeads:
    """Train one head per (learning rate, weight decay) of the grid, all in the same matrix products, from zero.

    They learn from the rows of ``train`` at these positions, minus ``mean`` (D,), times ``scale`` (D,). An empty title
    shows no progress bar.
    """
    batch = settings.images_per_step(len(positions))
    heads = LinearHeads(grid, classes, train.width, batch, device)
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
