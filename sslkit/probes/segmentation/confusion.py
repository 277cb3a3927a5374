"""Confusion matrices, of images or of pixels."""

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64 counts: rows are true classes, columns predicted ones.

    Args:
        truth: int64 of any shape, 0 to K - 1; -1 is unknown and never counted.
        predicted: the same shape.
        classes: K.
    """
    known = truth >= 0
    return np.bincount(truth[known] * classes + predicted[known], minlength=classes**2).reshape(classes, classes)
