"""Schedules and gradients."""

from sslkit.plots.panels.base import Panel

SECTION = "Optimisation"
PANELS = [
    Panel("lr", "learning rate", "Learning rate", section=SECTION, order=40),
    Panel("weight_decay", "weight decay", "Weight decay", section=SECTION, order=41),
    Panel("momentum", "momentum of the teacher", "Momentum of the teacher", section=SECTION, order=42),
    Panel("gradient_norm", "gradient norm before clipping (L2)", "Gradient norm", section=SECTION, order=43),
    Panel(
        "encoder_gradient", "gradient norm on the encoder (L2)", "Gradient on the encoder", section=SECTION, order=44
    ),
    Panel(
        "cosine",
        "cosine between gradients",
        "Cosine between gradients",
        "Below 0: the objectives pull in different directions.",
        SECTION,
        45,
    ),
]
