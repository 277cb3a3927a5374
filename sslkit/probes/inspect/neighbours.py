"""Nearest neighbours among frozen features, and the classes that are confused."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from sslkit import rng
from sslkit.data.class_balanced import by_class, in_turns
from sslkit.errors import SslkitError, UsageError
from sslkit.probes.classify.nearest import bank_of, search
from sslkit.probes.features.features import Features, check_pair

Only = Literal["right", "wrong", "any"]


def nearest(train: Features, val: Features, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest labelled train images of some val images, by an exact search.

    Args:
        train: labelled rows.
        val: labelled rows.
        positions: (Q,), which of val's labelled rows.
        k: neighbours of each.

    Returns:
        (Q, k) float32 cosines, descending, and (Q, k) int64 positions among train's labelled rows.

    Raises:
        SslkitError: one class only, NaN, different widths.
        UsageError: k larger than the train set.
    """
    check_pair(train, val)
    if not 1 <= k <= len(train):
        raise UsageError(f"--k {k}: train has {len(train)} labelled images, so k is 1 to {len(train)}")
    return search(bank_of(train), val.take(positions), k)


def choose_queries(labels: np.ndarray, predicted: np.ndarray, count: int, only: Only | None, seed: int) -> np.ndarray:
    """Images to look at, balanced over classes as far as possible.

    Args:
        labels: (N,) int64 true classes.
        predicted: (N,) int64 classes by a classifier.
        count: how many; all that qualify if there are fewer.
        only: images that are classified right, or wrong, or any; None alternates between wrong and right ones.
        seed: of the choice.

    Returns:
        (Q,) positions, by class and then by position.

    Raises:
        SslkitError: no image qualifies.
    """
    right = labels == predicted
    pools = {"any": [np.ones_like(right)], "right": [right], "wrong": [~right], None: [~right, right]}[only]
    streams = [_stream(labels, np.flatnonzero(pool), seed, number) for number, pool in enumerate(pools)]
    chosen: list[int] = []
    while streams and len(chosen) < count:
        stream = streams.pop(0)
        position = next(stream, None)
        if position is not None:
            chosen.append(position)
            streams.append(stream)
    if not chosen:
        raise SslkitError(f"--only {only}: none of the {len(labels)} val images is {only} by k-NN; try --only any")
    return np.array(sorted(chosen, key=lambda i: (labels[i], i)), np.int64)


def _stream(labels: np.ndarray, candidates: np.ndarray, seed: int, pool: int) -> Iterator[int]:
    """One image of each class, in a random order of the classes, then a second one of each, ..."""
    # Wrong and right images start at different classes, so that even a few queries show many classes.
    classes = rng.generator(seed, "queries-classes").permutation(np.unique(labels))
    classes = np.roll(classes, -pool * (len(classes) // 2))
    found = dict(by_class(labels[candidates]))
    members = [
        rng.generator(seed, "queries", label, pool).permutation(candidates[found[label]])
        for label in classes.tolist()
        if label in found
    ]
    return iter(in_turns(members).tolist())


def most_confused(counts: np.ndarray, top: int) -> list[dict[str, Any]]:
    """The ``top`` most frequent mistakes, ties in the order of the classes; shares of the true class in percent."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:top]
    pairs = [divmod(i, len(wrong)) for i in order.tolist()]
    return [
        {
            "true": true,
            "predicted": other,
            "count": int(wrong[true, other]),
            "share": float(100 * wrong[true, other] / counts[true].sum()),
        }
        for true, other in pairs
        if wrong[true, other]
    ]
