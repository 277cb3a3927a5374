"""timm's own names, bare or in containers: timm, sslkit, and the backbones that DINO and MAE publish."""

from sslkit.weights.layouts.base import Layout


class Timm(Layout):
    """Every key has timm's name already."""

    title = "timm's names"
    sign = None
