"""How much of an image can be taken away before a linear probe errs (Naseer et al., arXiv:2105.10497, section 3.1).

Patches are dropped in an order: random, salient (most attended by CLS, mean of the last block's heads) first, or
background (least attended) first. Salience is that of the intact image, computed once. Where the data has masks of
objects, true object patches first, and true background first, show what perfect attention would have done.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sslkit import rng
from sslkit.data.batch import patch_coverage
from sslkit.data.evaluation_crop import evaluation_crop
from sslkit.data.labels import by_class, in_turns
from sslkit.data.shards import Split
from sslkit.errors import SslkitError
from sslkit.probes.classify.linear_classifier import Drop, LinearClassifier
from sslkit.probes.features.crops import crops
from sslkit.probes.features.features import ranks_of_truth
from sslkit.statistics.intervals import wilson

SHARES = tuple(tenth / 10 for tenth in range(10))


@dataclass(frozen=True)
class Plan:
    """What is dropped.

    Attributes:
        shares: of the patches, in [0, 1), ascending, the first 0.
        draws: of the random order.
        drop: ``pixels``: the patch becomes the mean colour, 0 after normalisation. ``tokens``: it never enters the
            blocks.
        seed: of the random orders.
    """

    shares: Sequence[float] = SHARES
    draws: int = 3
    drop: Drop = "pixels"
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """A batch of the images that are judged.

    Attributes:
        rows: (B,) numbers of the images; random orders are keyed by them.
        images: (B, 3, S, S) normalised.
        labels: (B,) int64 on the host.
        objects: (B, N) the share of each patch that lies on the object; None where there are no masks.
    """

    rows: np.ndarray
    images: Tensor
    labels: Tensor
    objects: Tensor | None = None


class Classifier(Protocol):
    """What is judged."""

    patch_size: int  # pixels

    def logits(self, images: Tensor, keep: Tensor | None) -> Tensor:
        """(B, 3, S, S), and (B, M) int64 patches that enter the blocks or None for all -> (B, C) on the host."""
        ...

    def salience(self, images: Tensor) -> Tensor | None:
        """How much CLS attends to each patch: (B, N) on the host; None for a model without CLS attention."""
        ...


def parts_of(
    split: Split,
    rows: np.ndarray,
    probe: LinearClassifier,
    mean: Sequence[float],
    std: Sequence[float],
    title: str = "",
) -> Iterator[Part]:
    """The images to judge, batch by batch.

    Args:
        split: where they are; objects' masks count where each of the images has one.
        rows: (n,) which of them; all are labelled.
        probe: what judges them.
        mean: of the normalisation, per channel, of pixels in 0 ... 1.
        std: the same.
        title: of the progress bar; empty shows none.
    """
    size = probe.encoder.spec.image_size
    objects_known = masked(split, rows).all()
    for some, images in crops(split, rows, size, probe.device, mean, std, title):
        objects = None
        if objects_known:
            masks = [mask for row in some.tolist() if (mask := split.object_mask(row)) is not None]
            cut = torch.stack([evaluation_crop(mask[None], size)[0] for mask in masks])
            objects = patch_coverage(cut[None], probe.patch_size)
        yield Part(some, images, torch.from_numpy(split.labels[some]), objects)


def masked(split: Split, rows: np.ndarray) -> np.ndarray:
    """Which of some images have an object's mask: (n,) bool."""
    return np.isin(rows, split.having("mask.png"))


def judge(parts: Iterable[Part], model: Classifier, plan: Plan) -> dict[str, np.ndarray]:
    """Which images are classified right, for each kind of order, draw and share.

    Args:
        parts: the images.
        model: the classifier.
        plan: what is dropped.

    Returns:
        By kind (draws, shares, images) bool; kinds other than ``random`` have one draw.
    """
    found: dict[str, list[np.ndarray]] = {}
    for part in parts:
        intact = _right(model.logits(part.images, None), part.labels)
        for kind, orders in _orders(part, model, plan).items():
            hits = np.stack([_hits(part, order, model, plan, intact) for order in orders])
            found.setdefault(kind, []).append(hits)
    return {kind: np.concatenate(hits, -1) for kind, hits in found.items()}


def _orders(part: Part, model: Classifier, plan: Plan) -> dict[str, list[Tensor]]:
    """By kind the orders (B, N) in which patches are dropped, the first first."""
    rows, columns = (side // model.patch_size for side in part.images.shape[-2:])
    random = [
        torch.stack(
            [
                torch.from_numpy(rng.generator(plan.seed, "occlusion", draw, row).permutation(rows * columns))
                for row in part.rows.tolist()
            ]
        )
        for draw in range(plan.draws)
    ]
    orders = {"random": random}
    salience = model.salience(part.images)
    if salience is not None:
        orders |= {"salient": [_ranked(salience)], "background": [_ranked(-salience)]}
    if part.objects is not None:
        # Whole patches of the object, of which there are many, fall in a random order.
        orders |= {
            "object": [_ranked(part.objects, random[0])],
            "off-object": [_ranked(-part.objects, random[0])],
        }
    return orders


def _ranked(values: Tensor, ties: Tensor | None = None) -> Tensor:
    """Patches from the largest value to the smallest, (B, N) -> (B, N); equal ones in the order of ``ties``."""
    if ties is None:
        return values.argsort(dim=-1, descending=True, stable=True)
    return ties.gather(1, values.gather(1, ties).argsort(dim=-1, descending=True, stable=True))


def _hits(part: Part, order: Tensor, model: Classifier, plan: Plan, intact: np.ndarray) -> np.ndarray:
    """(shares, B) bool along one order."""
    rows = []
    for share in plan.shares:
        count = dropped(share, order.shape[1])
        if not count:
            rows.append(intact)
        elif plan.drop == "tokens":
            keep = order[:, count:].sort(-1).values.to(part.images.device)
            rows.append(_right(model.logits(part.images, keep), part.labels))
        else:
            rows.append(
                _right(model.logits(without(part.images, order[:, :count], model.patch_size), None), part.labels)
            )
    return np.stack(rows)


def dropped(share: float, patches: int) -> int:
    """How many of the patches a share is; at least one stays."""
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


def _right(logits: Tensor, labels: Tensor) -> np.ndarray:
    return (ranks_of_truth(logits, labels) < 1).numpy()


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of ``count`` labelled images, as many of each class as there can be; all where there are fewer.

    Args:
        labels: (N,) int64, -1 = unlabelled.
        count: how many.
        seed: of each class's order; a smaller count lies inside a larger one.

    Returns:
        (n,) int64, ascending.

    Raises:
        SslkitError: no image has a label.
    """
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise SslkitError(
            "val has no labels: occlusion counts what a linear probe gets right; prepare from class folders"
        )
    members = [
        rng.generator(seed, "occlusion/images", label).permutation(known[positions])
        for label, positions in by_class(labels[known])
    ]
    return np.sort(in_turns(members)[:count])


def curve(hits: np.ndarray, shares: Sequence[float], patches: int) -> list[dict[str, object]]:
    """One kind's curve.

    Args:
        hits: (draws, shares, n) bool.
        shares: of the patches.
        patches: N.

    Returns:
        For each share a dict of share, dropped (patches), top1 (percent, mean of the draws), interval (95 %, over
        images: Wilson's for one draw, wider than need be for several) and draws (percent, one each).
    """
    rows = []
    for index, share in enumerate(shares):
        draws = 100 * hits[:, index].sum(1) / hits.shape[2]
        rows.append(
            {
                "share": share,
                "dropped": dropped(share, patches),
                "top1": float(draws.mean()),
                "interval": list(wilson(100 * float(hits[:, index].mean()), hits.shape[2])),
                "draws": draws.tolist(),
            }
        )
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
