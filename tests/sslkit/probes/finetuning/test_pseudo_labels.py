"""Which predictions become labels."""

import numpy as np

from sslkit.probes.finetuning.prediction import Predictions
from sslkit.probes.finetuning.pseudo_labels import confident


def test_only_confident_predictions_become_labels():
    predictions = Predictions(
        np.array([2, 0, 1, 1]), np.array([0.95, 0.5, 0.9, 0.99], np.float32), np.zeros(4, np.int64)
    )
    found = confident(predictions, np.array([3, 5, 8, 9]), np.array([2, 0, 0, -1]), 0.9)
    # float32(0.9) is what 0.9 is in float32: the threshold itself counts.
    assert found.rows.tolist() == [3, 8, 9]
    assert found.labels.tolist() == [2, 1, 1]
    assert found.report == {"taken": 3, "of": 4, "confidence": 0.9, "accuracy": 50.0}
    assert confident(predictions, np.arange(4), np.full(4, -1), 0.99).report["accuracy"] is None
