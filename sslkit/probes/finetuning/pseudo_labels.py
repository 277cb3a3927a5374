"""Self-training: confident predictions become the labels of images that have none.

A pseudo-label is a predicted class whose probability reaches a threshold (arXiv:2001.07685 uses 0.95). The second round
starts again from the initial weights, so that it inherits the first round's mistakes only through the labels
(arXiv:1911.04252).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sslkit.probes.finetuning.prediction import UNLABELLED, Predictions


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model assigned.

    Attributes:
        rows: (T,) int64, of the images that got a label, ascending.
        labels: (T,) int64.
        report: how many of how many, and percent correct where the truth is known (None: nowhere).
    """

    rows: np.ndarray
    labels: np.ndarray
    report: dict[str, Any]


def confident(predictions: Predictions, rows: np.ndarray, truth: np.ndarray, threshold: float) -> PseudoLabels:
    """The predictions whose probability is at least the threshold.

    Args:
        predictions: for N images.
        rows: (N,) int64, their numbers in the split.
        truth: (N,) int64, -1 = unknown; used for the report only.
        threshold: in [0, 1].
    """
    taken = predictions.confidence >= threshold
    known = taken & (truth != UNLABELLED)
    right = known & (predictions.predicted == truth)
    accuracy = 100 * float(right.sum()) / int(known.sum()) if known.any() else None
    report = {"taken": int(taken.sum()), "of": len(rows), "confidence": threshold, "accuracy": accuracy}
    return PseudoLabels(rows[taken], predictions.predicted[taken], report)
