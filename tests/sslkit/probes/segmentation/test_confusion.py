"""Confusion matrices of class labels."""

import numpy as np

from sslkit.probes.segmentation.confusion import confusion


def test_a_class_that_is_only_predicted_has_a_column() -> None:
    assert confusion(np.array([0, 1]), np.array([2, 1]), 3).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
