"""Class-balanced choices of images: a share of the labels, few shots, held-out parts, and orders in turns.

Every random choice is a prefix of an order that each class draws from (seed, stream, class). So a smaller choice lies
inside a larger one, and one class never changes what is chosen of another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from sslkit import rng
from sslkit.errors import SslkitError, UsageError

MOST_CLASSES = 1_000_000  # a larger number is no class; names, heads and counts are made for every class below the last


def share(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Positions of the images that keep their label: the same share of every class, and at least one image of it.

    Args:
        labels: (N,) int64, -1 = unlabelled; those are never chosen.
        fraction: in (0, 1].
        seed: of the orders.

    Returns:
        (M,) int64, ascending.

    Raises:
        UsageError: a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"--label-fraction {fraction}: must be above 0 and at most 1")
    return firsts(class_orders(_labelled(labels), "labels.share", seed), lambda size: at_least_one(fraction, size))


def shots(labels: np.ndarray, count: int, seed: int, draw: int) -> np.ndarray:
    """Positions of ``count`` labelled images of every class, ascending; each draw gives others.

    Raises:
        SslkitError: a class has fewer.
    """
    orders = class_orders(_labelled(labels), "labels.shots", seed, draw)
    fewest = min((len(order) for order in orders), default=0)
    if fewest < count:
        raise SslkitError(f"--shots {count}: a class of train has only {fewest} labelled images")
    return firsts(orders, lambda size: count)


def held_out(groups: Iterable[tuple[int, np.ndarray]], fraction: float, stream: str, seed: int) -> np.ndarray:
    """Positions of a held-out part, ascending: the same share of every class, at least one image of it.

    At least one image of each class stays: a class of one image is not held out.
    """
    return firsts(class_orders(groups, stream, seed), lambda size: min(at_least_one(fraction, size), size - 1))


def at_least_one(fraction: float, size: int) -> int:
    """How many images a share of a class is."""
    return max(1, round(fraction * size))


def class_orders(groups: Iterable[tuple[int, np.ndarray]], stream: str, seed: int, draw: int = 0) -> list[np.ndarray]:
    """The positions of each class in a random order of its own.

    Args:
        groups: for each class a number that names it in its stream, and the positions of its images.
        stream: keeps this choice apart from others.
        seed: of the orders.
        draw: another number gives other orders.
    """
    return [rng.generator(seed, stream, key, draw).permutation(positions) for key, positions in groups]


def firsts(orders: Sequence[np.ndarray], count: Callable[[int], int]) -> np.ndarray:
    """The first images of each order, as many as ``count`` says for its length: (M,) int64, ascending."""
    return np.sort(np.concatenate([np.empty(0, np.int64), *(order[: count(len(order))] for order in orders)]))


def _labelled(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    known = np.flatnonzero(labels >= 0)
    return ((label, known[positions]) for label, positions in by_class(labels[known]))


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
