"""MAE's pretraining checkpoints: timm's names in ``model``, next to the decoder and the mask token."""

from sslkit.weights.layouts.base import Layout


class Mae(Layout):
    """timm's names, and a decoder that is left out."""

    title = "MAE (arXiv:2111.06377)"
    sign = r"(^|\.)decoder_(embed|blocks|pos_embed)"

    def timm_name(self, key: str) -> str | None:
        """None for the decoder; its mask token goes with it: timm would take that token as a sign of DINOv2."""
        return None if key.startswith("decoder") else super().timm_name(key)
