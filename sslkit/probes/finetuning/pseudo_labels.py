"""Self-training: confident predictions become the labels of images that have none.

A pseudo-label is a class predicted with at least a given probability (arXiv:2001.07685 uses 0.95). The second round
starts again from the initial weights, so that it inherits the first round's mistakes only through the labels
(arXiv:1911.04252).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sslkit.probes.finetuning.prediction import UNLABELLED, Predictions


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model assigned."""

    rows: np.ndarray  # (T,) int64, of the images that got a label, ascending
    labels: np.ndarray  # (T,) int64
    report: dict[str, Any]  # how many of how many, and percent correct where the truth is known (None: nowhere)


def confident(predictions: Predictions, rows: np.ndarray, truth: np.ndarray, threshold: float) -> PseudoLabels:
    """The predictions with a probability of at least the threshold.

    ``rows`` (N,) are the images' numbers in the split; ``truth`` (N,), -1 = unknown, is used for the report only.
    """
    taken = predictions.confidence >= threshold
    known = taken & (truth != UNLABELLED)
    right = known & (predictions.predicted == truth)
    accuracy = 100 * float(right.sum()) / int(known.sum()) if known.any() else None
    report = {"taken": int(taken.sum()), "of": len(rows), "confidence": threshold, "accuracy": accuracy}
    return PseudoLabels(rows[taken], predictions.predicted[taken], report)
