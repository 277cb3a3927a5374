"""How fast it trains, and whether it waits for data."""

from sslkit.plots.panels.base import Panel

SECTION = "Speed"
PANELS = [
    Panel("images_per_second", "images per second", "Images per second", section=SECTION, order=50),
    Panel(
        "data_wait",
        "share of time waiting for data",
        "Waiting for data",
        "Near 0: data arrive as fast as they are used.",
        SECTION,
        51,
    ),
]
