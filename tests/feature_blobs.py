"""Random features with classes, for the tests of probes."""

from pathlib import Path

import numpy as np

from sslkit.probes.features.features import Features


def blobs(
    count: int, classes: int, seed: int, width: int = 12, spread: float = 0.5, balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(count, width) float32 around the corners of a simplex, one per class, and their labels; classes overlap."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes if balanced else random.integers(0, classes, count)
    return (spread * random.normal(size=(count, width)) + np.eye(classes, width)[labels]).astype(np.float32), labels


def in_memory(features: np.ndarray, labels: np.ndarray) -> Features:
    """A split of features as ``open_features`` returns it; -1 = unlabelled."""
    rows = np.flatnonzero(labels >= 0)
    return Features(Path("cls.npy"), (features,), labels[rows], rows)
