"""Scores of a segmentation: Jaccard per object, mIoU over classes, and bootstrap intervals of their means.

A mask of patches is evaluated at the resolution of the photo's own mask, to which it is upsampled by nearest
neighbour. So the number of pixels of each class in each patch is all that is needed: counts give the same scores as
pixels do, at almost no cost.
"""

from collections.abc import Sequence

import numpy as np

from sslkit import rng

DRAWS = 1000  # of the bootstrap


def cell_of(size: int, cells: int) -> np.ndarray:
    """The cell that contains the centre of each of ``size`` pixels: nearest upsampling, in integer arithmetic.

    >>> cell_of(5, 2).tolist()
    [0, 0, 1, 1, 1]
    """
    return (2 * np.arange(size) + 1) * cells // (2 * size)


def count_cells(labels: np.ndarray, classes: int, grid: tuple[int, int]) -> np.ndarray:
    """How many pixels of each class are in each patch: (K, N) int64.

    Args:
        labels: (H, W) int64, -1 = void, never counted.
        classes: K.
        grid: rows and columns of patches, N in total.
    """
    rows, columns = (cell_of(size, cells) for size, cells in zip(labels.shape, grid, strict=True))
    patches = grid[0] * grid[1]
    keys = labels * patches + rows[:, None] * grid[1] + columns
    return np.bincount(keys[labels >= 0], minlength=classes * patches).reshape(classes, patches)


def jaccard(kept: np.ndarray, cells: np.ndarray, objects: Sequence[int]) -> np.ndarray:
    """Intersection over union of masks of patches with the objects of a photo, ignoring void: (G, M) in [0, 1].

    Args:
        kept: (M, N) bool, M masks.
        cells: (K, N) from ``count_cells``.
        objects: G classes that are objects, each with a pixel or more.
    """
    chosen = kept.astype(np.int64)
    common = cells[objects] @ chosen.T
    union = (cells.sum(0) @ chosen.T)[None] + cells[objects].sum(1)[:, None] - common
    return common / union


def class_iou(table: np.ndarray) -> np.ndarray:
    """(..., K, K) confusion -> (..., K) intersection over union; NaN for a class neither present nor predicted."""
    hits = np.diagonal(table, axis1=-2, axis2=-1).astype(np.float64)
    union = table.sum(-1) + table.sum(-2) - hits
    return np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)


def miou(table: np.ndarray) -> np.ndarray:
    """(..., K, K) confusion -> (...,) mean of the classes' IoU, over those present or predicted."""
    iou = class_iou(table)
    return np.where(np.isnan(iou), 0, iou).sum(-1) / np.maximum((~np.isnan(iou)).sum(-1), 1)


def lowest_entropy(attention: np.ndarray) -> int:
    """Index of the head with the lowest entropy of its attention (H, N): a choice that needs no mask."""
    share = attention / attention.sum(-1, keepdims=True)
    return int((share * np.log(np.maximum(share, 1e-30))).sum(-1).argmax())


def fixed_head(scores: np.ndarray, seed: int) -> np.ndarray:
    """Jaccard of one head for all photos, chosen on other photos than those it is evaluated on: (n, H) -> (n,).

    Two random halves choose for each other. A single photo gets the mean of the heads.
    """
    order = rng.generator(seed, "segment/halves").permutation(len(scores))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    if not len(halves[0]):
        return scores.mean(1)
    chosen = np.empty(len(scores))
    for mine, other in (halves, halves[::-1]):
        chosen[mine] = scores[mine, scores[other].mean(0).argmax()]
    return chosen


def resamples(images: int, seed: int) -> np.ndarray:
    """(draws, n) how often each photo occurs in each bootstrap resample.

    The same for everything that is measured on the photos, so that differences are paired.
    """
    return rng.generator(seed, "segment/bootstrap").multinomial(images, np.full(images, 1 / images), DRAWS)


def bounds(draws: np.ndarray) -> list[float]:
    """Bounds of the 95 % interval of a statistic, from its values on the resamples."""
    return [float(value) for value in np.quantile(draws, (0.025, 0.975))]
