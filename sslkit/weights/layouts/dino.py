"""DINO's training checkpoints: ``student.module.backbone.*``, ``teacher.backbone.*``, ``dino_loss.center``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from sslkit.weights.layouts.base import Layout


class DinoLayout(Layout):
    """timm's names below both branches."""

    title = "DINO (arXiv:2104.14294)"
    sign = r"^dino_loss\."

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """Head and centre."""
        key = "dino_loss.center"
        center = {"objectives.dino.center": (key, tensors[key].flatten())} if key in tensors else {}
        return super().rest(tensors, opened) | center
