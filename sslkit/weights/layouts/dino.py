"""DINO's training checkpoints: ``student.module.backbone.*``, ``teacher.backbone.*``, ``dino_loss.center``."""

from sslkit.weights.layouts.base import Layout


class DinoLayout(Layout):
    """timm's names below both branches."""

    title = "DINO (arXiv:2104.14294)"
    sign = r"^dino_loss\."
