"""iBOT's checkpoints, and AttMask's (arXiv:2203.12719), whose code is built on it: DINO's with a ``masked_embed``."""

from sslkit.weights.layouts.base import Layout


class IbotLayout(Layout):
    """timm's names below both branches, and a mask token that evaluation does not need."""

    title = "iBOT (arXiv:2111.07832) or AttMask"
    sign = r"^ibot_loss\.|(^|\.)masked_embed$"
