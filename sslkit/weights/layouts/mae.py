"""MAE's pretraining checkpoints: timm's names in ``model``, next to the decoder and the mask token."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from sslkit.weights.layouts.base import Layout

DECODER = {
    "mask_token": "mask_token",
    "decoder_embed": "embed",
    "decoder_blocks": "blocks",
    "decoder_norm": "norm",
    "decoder_pred": "predict",
}


class Mae(Layout):
    """timm's names, and a decoder that evaluation does not need."""

    title = "MAE (arXiv:2111.06377)"
    sign = r"(^|\.)decoder_(embed|blocks|pos_embed)"

    def timm_name(self, key: str) -> str | None:
        """None for the decoder; its mask token goes with it: timm would take that token as a sign of DINOv2."""
        return None if key.startswith("decoder") else super().timm_name(key)

    def rest(self, tensors: Mapping[str, Tensor], opened: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
        """The decoder but for its positions, which are computed."""
        inside = ".".join([*opened, ""]) if opened else ""
        found = {}
        for key, value in tensors.items():
            first, _, name = key.removeprefix(inside).partition(".")
            if first in DECODER:
                found[".".join(filter(None, ("decoder", DECODER[first], name)))] = (key, value)
        return found
