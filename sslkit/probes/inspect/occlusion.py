"""Accuracy of a linear probe on images with patches missing (Naseer et al., arXiv:2105.10497, section 3.1).

Patches are dropped in random order, salient first (most attended by CLS, mean of the last block's heads, in the intact
image), or background first (least attended). If the data has masks of objects, object patches first and true background
first show what perfect attention would do.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sslkit import rng
from sslkit.data.batch import patch_coverage
from sslkit.data.class_balanced import by_class, in_turns
from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.shards import Split
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear_classifier import Drop, LinearClassifier
from sslkit.probes.features.crops import crops
from sslkit.probes.features.features import ranks_of_truth
from sslkit.statistics.intervals import interval, wilson


@dataclass(frozen=True)
class OcclusionSettings:
    """Which patches are dropped, and how."""

    shares: Sequence[float]  # of the patches, in [0, 1), ascending, the first 0
    draws: int = 3  # random orders per image
    drop: Drop = "pixels"  # pixels: a patch becomes the mean colour, 0 after normalisation; tokens: it is never encoded
    seed: int = 0  # of the random orders


@dataclass(frozen=True)
class OcclusionBatch:
    """A batch of images to evaluate."""

    rows: np.ndarray  # (B,), numbers of the images, which key the random orders
    images: Tensor  # (B, 3, S, S) normalised
    labels: Tensor  # (B,) int64 on the host
    objects: Tensor | None = None  # (B, N), how much of each patch the object covers; None without masks


class OccludableClassifier(Protocol):
    """A classifier that can be evaluated with patches missing."""

    patch_size: int  # pixels

    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        """(B, 3, S, S), and (B, M) int64 patches that enter the blocks or None for all -> (B, C) on the host."""
        ...

    def salience(self, images: Tensor) -> Tensor | None:
        """How much CLS attends to each patch: (B, N) on the host; None for a model without CLS attention."""
        ...


def batches_of(split: Split, rows: np.ndarray, probe: LinearClassifier, title: str = "") -> Iterator[OcclusionBatch]:
    """The images to evaluate, batch by batch, with their objects if every one has a mask.

    Args:
        split: that they are part of.
        rows: (n,), which of its images; all are labelled.
        probe: the classifier.
        title: of the progress bar; empty shows none.
    """
    objects_known = masked(split, rows).all()
    for some, images in crops(split, rows, probe.frozen, title):
        objects = None
        if objects_known:
            masks = [mask for row in some.tolist() if (mask := split.object_mask(row)) is not None]
            cut = torch.stack([evaluation_crop(mask[None], probe.frozen.size)[0] for mask in masks])
            objects = patch_coverage(cut[None], probe.patch_size)
        yield OcclusionBatch(some, images, torch.from_numpy(split.labels[some]), objects)


def masked(split: Split, rows: np.ndarray) -> np.ndarray:
    """Which of the given images have a mask of their object: (n,) bool."""
    return np.isin(rows, split.having("mask.png"))


def classify(
    batches: Iterable[OcclusionBatch], model: OccludableClassifier, settings: OcclusionSettings
) -> dict[str, np.ndarray]:
    """Which images are classified correctly.

    Returns:
        (draws, shares, images) bool for each kind of order; only ``random`` has more than one draw.
    """
    found: dict[str, list[np.ndarray]] = {}
    for part in batches:
        intact = _correct(model.logits(part.images, None), part.labels)
        for kind, orders in _orders(part, model, settings).items():
            hits = np.stack([_hits(part, order, model, settings, intact) for order in orders])
            found.setdefault(kind, []).append(hits)
    return {kind: np.concatenate(hits, -1) for kind, hits in found.items()}


def _orders(part: OcclusionBatch, model: OccludableClassifier, settings: OcclusionSettings) -> dict[str, list[Tensor]]:
    """Orders (B, N) in which patches are dropped, by kind."""
    rows, columns = (side // model.patch_size for side in part.images.shape[-2:])
    random = []
    for draw in range(settings.draws):
        streams = (rng.generator(settings.seed, "occlusion", draw, row) for row in part.rows.tolist())
        random.append(torch.from_numpy(np.stack([stream.permutation(rows * columns) for stream in streams])))
    orders = {"random": random}
    salience = model.salience(part.images)
    if salience is not None:
        orders |= {"salient": [_ranked(salience)], "background": [_ranked(-salience)]}
    if part.objects is not None:
        # Many patches are entirely on the object: ties are broken at random.
        own, other = _ranked(part.objects, random[0]), _ranked(-part.objects, random[0])
        orders |= {"object": [own], "off-object": [other]}
    return orders


def _ranked(values: Tensor, ties: Tensor | None = None) -> Tensor:
    """Patches from the largest value to the smallest, (B, N) -> (B, N); equal ones in the order of ``ties``."""
    if ties is None:
        return values.argsort(dim=-1, descending=True, stable=True)
    return ties.gather(1, values.gather(1, ties).argsort(dim=-1, descending=True, stable=True))


def _hits(
    part: OcclusionBatch, order: Tensor, model: OccludableClassifier, settings: OcclusionSettings, intact: np.ndarray
) -> np.ndarray:
    """(shares, B) bool along one order."""
    rows = []
    for share in settings.shares:
        count = dropped(share, order.shape[1])
        if not count:
            rows.append(intact)
        elif settings.drop == "tokens":
            keep = order[:, count:].sort(-1).values.to(part.images.device)
            rows.append(_correct(model.logits(part.images, keep), part.labels))
        else:
            images = without(part.images, order[:, :count], model.patch_size)
            rows.append(_correct(model.logits(images, None), part.labels))
    return np.stack(rows)


def dropped(share: float, patches: int) -> int:
    """How many patches a share amounts to; at least one patch is kept."""
    return min(round(share * patches), patches - 1)


def without(images: Tensor, patches: Tensor, size: int) -> Tensor:
    """The images with some patches set to 0, which is the mean colour of normalised images.

    Args:
        images: (B, 3, H, W).
        patches: (B, M) int64, numbers in row-major order.
        size: of a patch, pixels.
    """
    rows, columns = images.shape[-2] // size, images.shape[-1] // size
    gone = torch.zeros(len(images), rows * columns, dtype=torch.bool).scatter_(1, patches, True)
    gone = gone.view(-1, 1, rows, columns).repeat_interleave(size, -2).repeat_interleave(size, -1)
    return images.masked_fill(gone.to(images.device), 0)


def _correct(logits: Tensor, labels: Tensor) -> np.ndarray:
    return (ranks_of_truth(logits, labels) < 1).numpy()


def balanced_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of ``count`` labelled images, balanced over classes as far as possible; all if there are fewer.

    Args:
        labels: (N,) int64, -1 = unlabelled.
        count: how many; with the same seed, larger counts contain smaller ones.
        seed: of each class's order.

    Returns:
        (n,) int64, ascending.

    Raises:
        SslkitError: no image has a label.
    """
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise SslkitError(
            "val has no labels, and occlusion measures the accuracy of a linear probe: prepare from class folders"
        )
    members = [
        rng.generator(seed, "occlusion/images", label).permutation(known[positions])
        for label, positions in by_class(labels[known])
    ]
    return np.sort(in_turns(members)[:count])


def curve(hits: np.ndarray, shares: Sequence[float], patches: int) -> list[dict[str, Any]]:
    """One kind's curve.

    Args:
        hits: (draws, shares, n) bool.
        shares: of the patches.
        patches: N.

    Returns:
        For each share a dict of share, dropped (patches), top1 (percent, mean of the draws), interval (95 %, over
        images: Wilson's for one draw, conservative for several), draws (percent, one each), and draws_interval (half
        the width of the 95 % interval over draws; None for a single one).
    """
    rows = []
    for index, share in enumerate(shares):
        draws = 100 * hits[:, index].sum(1) / hits.shape[2]
        top1, over_images = float(draws.mean()), list(wilson(100 * float(hits[:, index].mean()), hits.shape[2]))
        row = {"share": share, "dropped": dropped(share, patches), "top1": top1, "interval": over_images}
        rows.append({**row, "draws": draws.tolist(), "draws_interval": interval(draws.tolist())[1]})
    return rows


def area(shares: Sequence[float], values: Sequence[float]) -> float:
    """Area under a curve by trapezoids, over the range of the shares: the mean accuracy along it.

    >>> area([0.0, 0.5, 1.0], [80.0, 60.0, 0.0])
    50.0
    """
    if len(shares) == 1:
        return values[0]
    pieces = [(shares[i + 1] - shares[i]) * (values[i + 1] + values[i]) / 2 for i in range(len(shares) - 1)]
    return sum(pieces) / (shares[-1] - shares[0])
