"""Few labels: which images of train keep theirs, class by class."""

from collections.abc import Iterator, Sequence

import numpy as np

from sslkit import rng
from sslkit.errors import SslkitError, UsageError


def share(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Positions of the images that keep their label: the same share of every class, and at least one image of it.

    A class's order is drawn from (seed, class), and a share takes its beginning: 1 % lies inside 10 %.

    Args:
        labels: (N,) int64, -1 = unlabelled; those are never among them.
        fraction: in (0, 1].
        seed: of the orders.

    Returns:
        (M,) int64, ascending.

    Raises:
        UsageError: a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"--label-fraction {fraction}: it is above 0 and at most 1")
    parts = [order[: max(1, round(fraction * len(order)))] for order in _orders(labels, "labels.share", seed)]
    return np.sort(np.concatenate([*parts, np.empty(0, np.int64)]))


def shots(labels: np.ndarray, count: int, seed: int, draw: int) -> np.ndarray:
    """Positions of ``count`` labelled images of every class, ascending; another draw gives others.

    Raises:
        SslkitError: a class has fewer.
    """
    orders = _orders(labels, "labels.shots", seed, draw)
    fewest = min((len(order) for order in orders), default=0)
    if fewest < count:
        raise SslkitError(f"--shots {count}: a class of train has only {fewest} labelled images")
    return np.sort(np.concatenate([order[:count] for order in orders]))


def _orders(labels: np.ndarray, stream: str, seed: int, draw: int = 0) -> list[np.ndarray]:
    """The positions of each class in an order of its own."""
    known = np.flatnonzero(labels >= 0)
    return [
        rng.generator(seed, stream, label, draw).permutation(known[positions])
        for label, positions in by_class(labels[known])
    ]


def by_class(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every class that occurs, ascending, and the positions of its images, ascending.

    One sort for all classes: to look through (N,) labels once per class takes seconds for ImageNet's.
    """
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    return zip(classes.tolist(), np.split(order, starts[1:]), strict=len(labels) > 0)


def in_turns(groups: Sequence[np.ndarray]) -> np.ndarray:
    """The first of each group, then the second of each, ...: (N,) of all together.

    >>> in_turns([np.array([0, 1, 2]), np.array([3, 4])]).tolist()
    [0, 3, 1, 4, 2]
    """
    turns = np.concatenate([np.empty(0, np.int64), *(np.arange(len(group)) for group in groups)])
    return np.concatenate([np.empty(0, np.int64), *groups])[np.argsort(turns, kind="stable")]
