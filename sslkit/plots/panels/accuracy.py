"""Accuracies during training."""

from sslkit.plots.panels.base import Panel

SECTION = "Accuracy during training"
PANELS = [
    Panel(
        "knn",
        "k-NN top-1 on held-out train (%)",
        "k-NN during training",
        "On a held-out part of train, never on val.",
        SECTION,
        30,
    ),
    Panel(
        "accuracy", "accuracy of the training task (share)", "Accuracy of the training task", section=SECTION, order=31
    ),
]
