"""Linear probe on patch tokens: one linear layer classifies each patch, and is evaluated pixel by pixel.

A patch's label is the class of most of its known pixels. The layer is trained like the probe of ``linear``:
standardised features, SGD with momentum, a cosine schedule, several learning rates in the same matrix products. The
rate with the best mIoU over the patches of held-out train images is chosen. Logits are upsampled bilinearly to the
mask's size.
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
from sslkit.probes.classify.linear import fit, statistics
from sslkit.probes.classify.linear_heads import LinearHeads
from sslkit.probes.classify.linear_sweep import LEARNING_RATES, LinearSettings
from sslkit.probes.features.features import CHUNK, Features
from sslkit.probes.segmentation.confusion import confusion
from sslkit.probes.segmentation.scores import miou

HELD_OUT = 0.2  # of the train images
EPOCHS = 20
MAX_PATCHES = 200_000  # to learn from; if there are more, each image contributes the same number
MAX_FLOATS = 1 << 27  # of their tokens: 512 MiB; wide tokens reach this limit first


@dataclass(frozen=True)
class Patches:
    """Labelled patches of the train images."""

    features: np.ndarray  # (P, D) float32
    labels: np.ndarray  # (P,) int64
    images: np.ndarray  # (P,) int64, the image that each comes from


class PatchCollector:
    """Gathers labelled patches image by image, all in memory.

    An image of N patches needs 4 N D bytes: 0.3 MB at 224 pixels with a ViT-S/16. At most ``MAX_PATCHES`` patches and
    ``MAX_FLOATS`` numbers are kept, but at least one patch of each image: every image may contribute ``most`` patches,
    which depends on how many images will be added.
    """

    def __init__(self, images: int, width: int, seed: int):
        self.most = max(min(MAX_PATCHES, MAX_FLOATS // width) // max(images, 1), 1)
        self._seed, self._number, self._count = seed, 0, 0
        # As large as it may get: the system only allocates the pages that are written.
        self._features = np.empty((images * self.most, width), np.float32)
        self._labels, self._images = (np.empty(len(self._features), np.int64) for _ in range(2))

    def add(self, patches: Tensor, cells: np.ndarray) -> None:
        """Add an image: tokens (N, D) and pixels of each class in each patch (K, N); void patches are left out."""
        known = np.flatnonzero(cells.sum(0))
        if len(known) > self.most:
            draw = rng.generator(self._seed, "segment/patches", self._number)
            known = np.sort(draw.permutation(known)[: self.most])
        where = slice(self._count, self._count + len(known))
        self._features[where], self._labels[where] = patches.numpy()[known], cells[:, known].argmax(0)
        self._images[where] = self._number
        self._number, self._count = self._number + 1, where.stop

    def gathered(self) -> Patches:
        """All patches added so far."""
        return Patches(*(values[: self._count] for values in (self._features, self._labels, self._images)))


@dataclass(frozen=True)
class PatchProbe:
    """A trained probe."""

    weight: Tensor  # (K, D), for raw tokens
    bias: Tensor  # (K,)
    lr: float  # the chosen learning rate, per 256 patches
    held_out_miou: float  # percent, over patches; the rate was chosen by it
    sweep: list[dict[str, float]]  # per rate: lr, held_out_miou

    def predict(self, patches: Tensor, grid: tuple[int, int], height: int, width: int) -> np.ndarray:
        """Tokens (N, D) of a photo -> the class of each pixel, (H, W) int64."""
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
    """Sweep the learning rate, per 256 patches, on held-out images, then train on all of them.

    Raises:
        SslkitError: one image, or one class only.
    """
    if len(np.unique(train.labels)) < 2:
        raise SslkitError("all patches of the train images have the same class: the probe needs two or more")
    numbers = np.unique(train.images)
    if len(numbers) < 2:
        raise SslkitError("the probe needs at least two train images: one to learn from, one to choose by")
    count = max(1, round(HELD_OUT * len(numbers)))
    held = np.isin(train.images, rng.generator(seed, "segment/held-out").permutation(numbers)[:count])
    features = Features(Path("patches"), (train.features,), train.labels, np.arange(len(train.labels)))
    mean, scale = statistics(features, True)
    settings, device = LinearSettings(epochs=EPOCHS, seed=seed), device or torch.device("cpu")
    grid = [(rate, 0.0) for rate in learning_rates]
    heads = fit(features, np.flatnonzero(~held), classes, grid, settings, mean, scale, device, title)
    scores = _held_out_miou(heads, train, np.flatnonzero(held), classes, mean, scale)
    best = int(np.argmax(scores))
    final = fit(features, np.arange(len(held)), classes, [grid[best]], settings, mean, scale, device, title)
    weight, bias = final.fold(0, mean, scale)
    sweep = [{"lr": rate, "held_out_miou": score} for rate, score in zip(learning_rates, scores, strict=True)]
    return PatchProbe(weight, bias, grid[best][0], scores[best], sweep)


def _held_out_miou(
    heads: LinearHeads, train: Patches, held: np.ndarray, classes: int, mean: Tensor, scale: Tensor
) -> list[float]:
    """MIoU in percent of every head over held-out patches; 0 for one that diverged."""
    tables = np.zeros((heads.count, classes, classes), np.int64)
    weight, bias = heads.weight.cpu(), heads.bias.cpu()
    for index in np.array_split(held, -(-len(held) // CHUNK)):
        rows = (torch.from_numpy(train.features[index]) - mean) * scale
        for which in range(heads.count):
            predicted = (rows @ weight[which].T + bias[which]).argmax(1).numpy()
            tables[which] += confusion(train.labels[index], predicted, classes)
    return (100 * miou(tables) * heads.finite().cpu().numpy()).tolist()
