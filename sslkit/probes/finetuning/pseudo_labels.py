"""Self-training: what a model is sure of becomes the label of images that have none.

Pseudo-labels are classes whose probability reaches a threshold (arXiv:2001.07685 keeps those of at least 0.95); the
learner then starts again from the weights that the first one started from, so that the first one's mistakes are only
handed down by the labels (arXiv:1911.04252).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sslkit.probes.finetuning.prediction import UNLABELLED, Judged


@dataclass(frozen=True)
class PseudoLabels:
    """Labels that a model gave.

    Attributes:
        rows: (T,) int64, of the images that were taken, ascending.
        labels: (T,) int64.
        report: how many of how many, and percent right where the truth is known (None: nowhere).
    """

    rows: np.ndarray
    labels: np.ndarray
    report: dict[str, Any]


def confident(judged: Judged, rows: np.ndarray, truth: np.ndarray, threshold: float) -> PseudoLabels:
    """The predictions whose probability is at least the threshold.

    Args:
        judged: of N images.
        rows: (N,) int64, their numbers in the split.
        truth: (N,) int64, -1 = unknown; only the report looks at it.
        threshold: in [0, 1].
    """
    taken = judged.confidence >= threshold
    known = taken & (truth != UNLABELLED)
    right = known & (judged.predicted == truth)
    accuracy = 100 * float(right.sum()) / int(known.sum()) if known.any() else None
    report = {"taken": int(taken.sum()), "of": len(rows), "confidence": threshold, "accuracy": accuracy}
    return PseudoLabels(rows[taken], judged.predicted[taken], report)
