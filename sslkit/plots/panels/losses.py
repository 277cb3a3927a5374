"""The loss, whole and by objective."""

from sslkit.plots.panels.base import Panel

PANELS = [Panel("loss", "loss", "Loss", section="Losses", order=10)]
