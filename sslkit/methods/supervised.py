"""Supervised training, for comparison: cross-entropy with smoothed and mixed labels, as in DeiT (arXiv:2012.12877).

    mixup (arXiv:1710.09412):   x = a x_i + (1 - a) x_j                               y = a y_i + (1 - a) y_j
    cutmix (arXiv:1905.04899):  x = x_i with a box of x_j, a = 1 - the box's share    y = a y_i + (1 - a) y_j
    loss = -sum_k y_k log p_k(x)

Images without a label are left out, and so are mixtures with them. The mixing is timm's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sslkit import rng
from sslkit.data.batch import Batch
from sslkit.distributed.process_group import processes
from sslkit.distributed.sums import summed
from sslkit.errors import UsageError
from sslkit.methods.base import Classifying, DataFacts, Losses, Preview, augmented
from sslkit.recipe.schema import Recipe
from sslkit.schedules import Moment

UNLABELLED = -1

if TYPE_CHECKING:
    from timm.data.mixup import Mixup


class Supervised(Classifying):
    """A linear layer on CLS predicts the class; every global crop is mixed with its neighbour's in the batch."""

    class Config(Classifying.Config):
        """Keys of the recipe's ``method`` section."""

        smoothing: float = Field(default=0.1, ge=0, lt=1)  # share of the target that is spread over all classes
        mixup: float = Field(default=0.8, ge=0)  # a ~ Beta(mixup, mixup); 0 = no mixup
        cutmix: float = Field(default=1.0, ge=0)  # likewise; where both are on, a coin chooses one for the step
        probability: float = Field(default=1.0, ge=0, le=1)  # that a step mixes at all

    def __init__(self, recipe: Recipe, facts: DataFacts | None = None):
        from timm.data.mixup import Mixup

        super().__init__(recipe, facts)
        assert isinstance(recipe.method, self.Config)
        self.keys, self.classes = recipe.method, self.facts.classes
        if not self.classes:
            raise UsageError("method supervised needs labels, and no training image has one: choose another recipe")
        self.classifier = nn.Linear(self.encoder.width, self.classes)
        k, mixes = self.keys, self.keys.probability and (self.keys.mixup or self.keys.cutmix)
        args = k.mixup, k.cutmix, None, k.probability, 0.5, "batch", True, k.smoothing, self.classes
        self.mixup = Mixup(*args) if mixes else None

    def forward(self, batch: Batch, at: Moment) -> Losses:
        """One step of the method, up to the loss."""
        images, targets, known = self._examples(batch, at)
        cls = self.encode(images, batch, at)  # (V, B, D)
        logits = self.classifier(cls).float()
        loss = soft_cross_entropy(logits, targets, known)
        answers = torch.where(known, targets.argmax(-1), UNLABELLED)  # the larger part of a mixture
        return self.losses(loss, logits, answers, cls[0])

    def preview(self, batch: Batch, at: Moment) -> Preview:
        """The mixed images, and their targets in words."""
        images, targets, known = self._examples(batch, at)
        captions = [described(rows, seen) for rows, seen in zip(targets.unbind(1), known.unbind(1), strict=True)]
        return Preview({"mixed" if self.mixup else "crop": images}, captions=captions)

    def _examples(self, batch: Batch, at: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """Images (V, B, 3, S, S), targets (V, B, C), and which of them are known, (V, B)."""
        crops = augmented(batch)[0]
        mixed = []
        for view, images in enumerate(crops):
            draw = rng.generator(self.recipe.train.seed, "mixup", at.step, view)
            mixed.append(mix(images, batch.labels, self.classes, self.keys.smoothing, self.mixup, draw))
        images, targets, known = (torch.stack(parts) for parts in zip(*mixed, strict=True))
        return images, targets, known


def mix(
    images: Tensor, labels: Tensor, classes: int, smoothing: float, mixup: "Mixup | None", draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix the first image with the second, the third with the fourth, ...; the last of an odd number stays alone.

    One share and one box, by ``draw``, for the whole step, and neighbours as partners: so neither accumulation nor the
    number of processes changes the mixtures, provided their parts of the batch are even. Without ``mixup`` nothing is
    mixed. Labels are (B,) int64, -1 = unlabelled.

    Returns:
        Images (B, 3, S, S), targets (B, C) with rows that sum to 1, and (B,) bool: whether a target is known.
    """
    from timm.data.mixup import mixup_target

    known = labels != UNLABELLED
    targets = mixup_target(labels.clamp_min(0), classes, smoothing=smoothing)
    even = len(images) - len(images) % 2
    if mixup is None or not even:
        return images, targets, known
    # timm mixes image i with image n - 1 - i, so neighbours go to opposite ends.
    at = torch.arange(even, device=images.device)
    ends = torch.cat([at[::2], at[1::2].flip(0)])
    back = ends.argsort()
    with numpy_seeded(draw):
        blended, blended_targets = mixup(images[ends], labels[ends].clamp_min(0))
    both = known[ends] & known[ends].flip(0)
    return (
        torch.cat([blended[back], images[even:]]),
        torch.cat([blended_targets[back], targets[even:]]),
        torch.cat([both[back], known[even:]]),
    )


@contextmanager
def numpy_seeded(draw: np.random.Generator) -> Iterator[None]:
    """NumPy's global generator, which timm draws from, seeded by ``draw``; its state is restored afterwards."""
    before = np.random.get_state()  # noqa: NPY002  timm's choice
    np.random.seed(int(draw.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def soft_cross_entropy(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Mean of -sum_k y_k log p_k over the known targets of all processes; 0 where there are none.

    Logits and targets are (..., C), ``known`` is (...) bool.
    """
    each = F.cross_entropy(logits.flatten(0, -2), targets.flatten(0, -2), reduction="none") * known.flatten()
    # Data parallelism takes the mean of this: each process's sum over its part of the count of all.
    return each.sum() * processes() / summed(known.float().sum()).clamp_min(1)


def described(targets: Tensor, known: Tensor) -> str:
    """(V, C) targets and (V,) -> for instance "class 3: 62 %, class 7: 38 %"; what smoothing spreads is left out."""
    if not known.any():
        return "no label"
    target = targets[known.float().argmax()]
    parts = target - target.min()
    shares = {k: float(parts[k] / parts.sum()) for k in parts.argsort(descending=True, stable=True).tolist()[:2]}
    return ", ".join(f"class {k}" + (f": {share:.0%}" if share < 1 else "") for k, share in shares.items() if share > 0)
