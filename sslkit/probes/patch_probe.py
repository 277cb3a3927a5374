"""Linear probe on patch tokens: what each patch shows, read off by one linear layer, and judged pixel by pixel.

A patch's label is the class that most of its known pixels have. The layer is trained as the probe of ``linear`` is:
standardised features, SGD with momentum, a cosine, several learning rates in the same matrix products. The rate is the
one whose mIoU over the patches of held-out train images is best. Logits are upsampled bilinearly to the mask's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sslkit import rng
from sslkit.errors import SslkitError
from sslkit.probes.features import Features
from sslkit.probes.linear import LEARNING_RATES, Settings, fit, statistics
from sslkit.probes.segmentation import confusion, miou

HELD_OUT = 0.2  # of the train images
EPOCHS = 20
MAX_PATCHES = 200_000  # to learn from; of more, each image gives as many


@dataclass(frozen=True)
class Patches:
    """Labelled patches of the train images.

    Attributes:
        features: (P, D) float32.
        labels: (P,) int64.
        images: (P,) int64, from which image.
    """

    features: np.ndarray
    labels: np.ndarray
    images: np.ndarray


class PatchCollector:
    """Gathers labelled patches image by image.

    Args:
        images: how many will come; what each may give follows from it.
        seed: of the draw of patches.
    """

    def __init__(self, images: int, seed: int):
        self._most, self._seed, self._number = max(MAX_PATCHES // max(images, 1), 1), seed, 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, patches: Tensor, cells: np.ndarray) -> None:
        """Take one image: tokens (N, D), and pixels of each class in each patch (K, N); void patches are left out."""
        known = np.flatnonzero(cells.sum(0))
        if len(known) > self._most:
            draw = rng.generator(self._seed, "segment/patches", self._number)
            known = np.sort(draw.permutation(known)[: self._most])
        where = np.full(len(known), self._number)
        self._parts.append((patches.numpy()[known], cells[:, known].argmax(0), where))
        self._number += 1

    def gathered(self) -> Patches:
        """All patches so far."""
        features, labels, images = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return Patches(features, labels, images)


@dataclass(frozen=True)
class PatchProbe:
    """A trained probe.

    Attributes:
        weight: (K, D) for raw tokens.
        bias: (K,).
        lr: the chosen learning rate, per 256 patches.
        held_out_miou: percent, over patches: what it was chosen by.
        sweep: one dict per rate: lr, held_out_miou.
    """

    weight: Tensor
    bias: Tensor
    lr: float
    held_out_miou: float
    sweep: list[dict[str, float]]

    def predict(self, patches: Tensor, grid: tuple[int, int], height: int, width: int) -> np.ndarray:
        """Tokens (N, D) of a photo -> its classes pixel by pixel, (H, W) int64."""
        logits = (patches @ self.weight.T + self.bias).T.reshape(1, -1, *grid)
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0].argmax(0).numpy()


def train_probe(
    train: Patches,
    classes: int,
    seed: int,
    device: torch.device | None = None,
    learning_rates: Sequence[float] = LEARNING_RATES,
    title: str = "",
) -> PatchProbe:
    """Sweep the learning rate on held-out images, then train on all of them.

    Args:
        train: patches of two images or more.
        classes: K.
        seed: of the held-out images and the order of the patches.
        device: where the layer is trained; None is the CPU.
        learning_rates: per 256 patches.
        title: of the progress bar; empty shows none.

    Raises:
        SslkitError: one image, or one class only.
    """
    if len(np.unique(train.labels)) < 2:
        raise SslkitError("the patches of the train images are all of one class: the probe has nothing to tell apart")
    numbers = np.unique(train.images)
    if len(numbers) < 2:
        raise SslkitError("the probe needs two train images or more: one to learn from, one to choose by")
    count = max(1, round(HELD_OUT * len(numbers)))
    held = np.isin(train.images, rng.generator(seed, "segment/held-out").permutation(numbers)[:count])
    features = Features(Path("patches"), (train.features,), train.labels, np.arange(len(train.labels)))
    mean, scale = statistics(features, True)
    settings, device = Settings(epochs=EPOCHS, seed=seed), device or torch.device("cpu")
    grid = [(rate, 0.0) for rate in learning_rates]
    heads = fit(features, np.flatnonzero(~held), classes, grid, settings, mean, scale, device, title)
    rows, truth = (torch.from_numpy(train.features[held]) - mean) * scale, train.labels[held]
    scores = []
    for weight, bias in zip(heads.weight.cpu(), heads.bias.cpu(), strict=True):
        predicted = (rows @ weight.T + bias).argmax(1).numpy()
        finite = bool(weight.isfinite().all() and bias.isfinite().all())
        scores.append(100 * float(miou(confusion(truth, predicted, classes))) * finite)
    best = int(np.argmax(scores))
    final = fit(features, np.arange(len(held)), classes, [grid[best]], settings, mean, scale, device, title)
    weight, bias = final.fold(0, mean, scale)
    sweep = [{"lr": rate, "held_out_miou": score} for rate, score in zip(learning_rates, scores, strict=True)]
    return PatchProbe(weight, bias, grid[best][0], scores[best], sweep)
