"""iBOT's checkpoints, and AttMask's (arXiv:2203.12719), whose code is built on it: DINO's with a ``masked_embed``."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from sslkit.weights.layouts.base import Layout


class IbotLayout(Layout):
    """timm's names below both branches, and a mask token that evaluation does not need."""

    title = "iBOT (arXiv:2111.07832) or AttMask"
    sign = r"^ibot_loss\.|(^|\.)masked_embed$"

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """Head, mask token and both centres."""
        centers = {"objectives.dino.center": "ibot_loss.center", "objectives.ibot.center": "ibot_loss.center2"}
        found = {name: (key, tensors[key].flatten()) for name, key in centers.items() if key in tensors}
        return super().rest(tensors, opened) | found
